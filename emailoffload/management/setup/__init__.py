"""The dialogue of `manage.py setup`: one module for each group of questions, in the order in which they are asked."""
