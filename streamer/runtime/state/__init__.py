"""State that outlives the process: snapshots of partitions, where they are kept, and which one counts.

snapshots    a partition's state as bytes, and back
pointer      the note in the group's commit that names the snapshot to go on from
interface    what a store must do: `local` files, a `topic` (and its `topic_settings`), `objects` in a bucket
keeper       the three together: what checkpoints and restores call
"""
