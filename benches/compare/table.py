"""Tables of plain text, and how a spread is written. Where a ratio cannot be told, the table says why."""

from . import figures


def table(header, rows):
    """Lines of columns as wide as they need to be; the first to the left, the others to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    def line(row):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "  ".join(cells).rstrip()
    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def or_why(tell, *figures_by_round, form="{:.2f}"):
    """A spread, `median (low to high)`; or how few rounds count, if they are too few."""
    if not all(figures_by_round):
        return "-"
    try:
        spread = tell(*figures_by_round)
    except figures.TooFewRounds as few:
        return f"only {few.rounds} rounds"
    return f"{form.format(spread.median)} ({form.format(spread.low)} to {form.format(spread.high)})"


def middle(values, form="{:,.0f}"):
    """The median alone; `-` if there are too few rounds."""
    try:
        return form.format(figures.spread(values.values()).median)
    except figures.TooFewRounds:
        return "-"
