"""The database engine of the rehearsals' sample Moodle."""
