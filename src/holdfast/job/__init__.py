"""The pure core: values, the state table, the rules. No I/O, no clock, no chance; imports nothing of ours but errors."""
