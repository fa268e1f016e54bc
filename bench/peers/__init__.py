"""What `bench.postgresql` measures, each in a process of its own: ours, bare SQL, and PgQueuer in its own environment.

Every program takes a URL, an action and a number, and prints one JSON object. None of them is a benchmark by itself.
"""
