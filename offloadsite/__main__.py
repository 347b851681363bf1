"""`python -m offloadsite COMMAND`: as `manage.py COMMAND`, where there is no manage.py."""

from offloadsite.cli import main

if __name__ == "__main__":
    main()
