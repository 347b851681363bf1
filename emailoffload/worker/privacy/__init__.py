"""What is kept about people goes again: after its time, because Moodle deleted them, or at their wish."""
