"""Claim, run, settle; heartbeat, rescue, drain. The worker knows ports (`store.Source`, `Program`), never adapters."""
