"""The paper's tables: what they hold, where their data comes from, and how they are written."""
