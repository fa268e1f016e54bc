"""Recurring jobs: rules and zones (pure), the plan of a tick (pure), steering by people, and the scheduler that fires."""
