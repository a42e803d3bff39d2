//! Aligned columns: text to the left, numbers to the right, two blanks between.

use comfy_table::{CellAlignment, Table as Grid, presets};

/// A table in the making.
pub(super) struct Table {
    grid: Grid,
    rows: usize,
}

impl Table {
    /// With these titles; a title that starts with `>` is of a column of numbers.
    pub(super) fn new(titles: &[&str]) -> Self {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING);
        grid.set_header(titles.iter().map(|title| title.trim_start_matches('>')));
        for (column, title) in grid.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
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
}
