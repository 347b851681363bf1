#!/usr/bin/env python3
"""The command line of Email Offload."""

from offloadsite.cli import main

if __name__ == "__main__":
    main()
