"""The paper's own system (arXiv 2402.05712): its network, its shortcut, its data, losses, metrics, training."""
