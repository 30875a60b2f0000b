"""The vocabulary of the energy management system: frozen types and pure rules. Imports no sibling package."""
