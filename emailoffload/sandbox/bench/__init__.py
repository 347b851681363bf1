"""The figures of the README, measured on this machine: `manage.py bench`.

The driver runs in one process and needs no database of its own: it starts a private MariaDB with durable
commits, restores the real site of `tests/data`, starts the sandbox SES, and lets processes of the product
(`bench.worker`) and of the peers (`bench.peer`) work on them. What is compared is measured in the same run.
"""
