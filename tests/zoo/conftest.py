"""`plain_torch.py` needs PyTorch and has no tests of its own: the tests beside it import it where PyTorch is."""

collect_ignore = ["plain_torch.py"]
