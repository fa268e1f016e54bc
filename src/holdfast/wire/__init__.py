"""The messages of the HTTP API, known to the hub that serves them and to `stores/remote` that sends them.

Everything is JSON. Times are seconds since the epoch (UTC), durations are seconds; payload, result, data and headers are
JSON values, not texts of JSON. What people write (`requests`) also takes durations such as "5m" and times with a zone.
"""
