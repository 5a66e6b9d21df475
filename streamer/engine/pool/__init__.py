"""Denoising on other machines: a pool of replicas in a Ray cluster, and the backend that asks it."""
