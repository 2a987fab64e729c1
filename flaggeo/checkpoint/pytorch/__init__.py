"""What PyTorch writes: files of ``torch.save`` and folders of torch.distributed.checkpoint."""
