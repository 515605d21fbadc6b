"""Gram matrices of a kernel flow, by entries, tiles or rows; their spectrum and predictions."""
