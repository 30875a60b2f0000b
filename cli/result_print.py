"""The table of a comparison on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cli.result_table import Compared, number, result_rows


def print_table(console: Console, compared: Sequence[Compared]) -> None:
    """One column a run, the best of each row in bold."""
    table = Table(title=compared[0].run.scenario_name, title_justify="left")
    table.add_column("")
    table.add_column("unit")
    for one in compared:
        table.add_column(one.name, justify="right")
    for row in result_rows(compared):
        label = ("  " if row.indent else "") + row.label
        best = row.best()
        cells = [
            f"[bold]{number(v, row.digits)}[/bold]" if i in best else number(v, row.digits)
            for i, v in enumerate(row.values)
        ]
        table.add_row(f"[bold]{label}[/bold]" if row.strong else label, row.unit, *cells)
    console.print(table)
