"""What the doctor looks at, one module a subject; `actions.doctor` puts them together."""
