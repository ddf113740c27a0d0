"""Programs: how functions are traced, and how compiled programs are found again."""
