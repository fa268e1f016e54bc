"""Speed, measured side by side in one run: ratios and medians, never a bare absolute time. Run by `make bench`."""
