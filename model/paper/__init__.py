"""The paper's own system (arXiv 2402.05712): network, exact shortcut, data sets, metrics, training."""
