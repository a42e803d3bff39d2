//! Aligned columns: text to the left, numbers to the right, two blanks between.

use std::io::stdout;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Grid, presets};
use terminal_size::{Width, terminal_size_of};

/// A table in the making.
pub(super) struct Table {
    grid: Grid,
    rows: usize,
}

impl Table {
    /// With these titles; a title that starts with `>` is of a column of numbers, with `~` of one of sentences, which
    /// are folded to fit the terminal. For a file or a pipe, a row is always one line.
    pub(super) fn new(titles: &[&str]) -> Self {
        Self::within(titles, terminal_size_of(stdout()).map(|(Width(width), _)| width))
    }

    fn within(titles: &[&str], width: Option<u16>) -> Self {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING);
        grid.set_header(titles.iter().map(|title| title.trim_start_matches(['>', '~'])));
        for (column, title) in grid.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if !title.starts_with('~') {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        if let Some(width) = width.filter(|_| titles.iter().any(|title| title.starts_with('~'))) {
            grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        Self { grid, rows: 0 }
    }

    /// One row more.
    pub(super) fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.grid.add_row(cells.into_iter().map(|cell| cell.to_string()));
        self.rows += 1;
    }

    /// The text; `nothing` if there is no row.
    pub(super) fn finish(self, nothing: &str) -> String {
        if self.rows == 0 {
            return format!("{nothing}\n");
        }
        self.grid.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_each_other_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["NAME", ">COUNT", "WHY"]);
        table.row(["a", "1", ""]);
        table.row(["longer", "1000", "x y"]);
        assert_eq!(table.finish("none"), "NAME    COUNT  WHY\na           1\nlonger   1000  x y\n");
        assert_eq!(Table::new(&["NAME"]).finish("none"), "none\n");
    }

    #[test]
    fn sentences_are_folded_on_a_terminal_and_nothing_else_is() {
        let table = |width| {
            let mut table = Table::within(&["NAME", "~MEANING"], width);
            table.row(["a_long_name", "what it does and why"]);
            table.finish("none")
        };
        let folded = "NAME         MEANING\na_long_name  what it\n             does and\n             why\n";
        assert_eq!(table(Some(25)), folded);
        assert_eq!(table(None), "NAME         MEANING\na_long_name  what it does and why\n");
        let mut narrow = Table::within(&["NAME", ">COUNT"], Some(8));
        narrow.row(["a_long_name", "12345678"]);
        assert_eq!(narrow.finish("none"), "NAME            COUNT\na_long_name  12345678\n");
    }
}
