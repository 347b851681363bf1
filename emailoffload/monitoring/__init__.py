"""What machines ask: is it ready (`/readyz`), how does it stand (`/metrics`), who asked for what (the access log).

Everything is read from our own database, as the worker left it, so that every web process answers alike; Amazon SES is
never asked, Moodle only whether it answers. docs/monitoring.md describes it for administrators.
"""
