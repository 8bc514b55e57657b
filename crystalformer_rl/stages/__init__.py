"""A stage is one function: tables in, tables out. Commands parse for it, rules chain it, notebooks call it."""
