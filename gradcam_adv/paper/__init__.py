"""The paper: its tables and claims, the rules that judge them, readings and seeds; numbers only."""
