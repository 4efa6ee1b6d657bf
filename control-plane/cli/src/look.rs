//! How things look on a terminal: a few colours and tables. Where output is no terminal, or
//! `NO_COLOR` is set, `anstream` takes the colours out again, so nobody asks twice.

use anstyle::{AnsiColor, Style};
use std::fmt;
use std::io::{self, Write as _};

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const LINK: Style = AnsiColor::Cyan.on_default();

/// `text` in `style`.
pub(crate) fn paint(style: Style, text: impl fmt::Display) -> Cell {
    Cell { text: text.to_string(), style }
}

/// A piece of text with one style.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), style: Style::new() }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}

/// Columns as wide as their widest cell; styles do not count.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: impl IntoIterator<Item = &'static str>) -> Table {
        Table { head: head.into_iter().collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<Cell> = self.head.iter().map(|h| paint(DIM, h)).collect();
        let lines = || std::iter::once(&head).chain(&self.rows);
        let width =
            |i: usize| lines().filter_map(|row| row.get(i)).map(|c| c.text.chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for row in lines() {
            f.write_str("  ")?;
            for (i, cell) in row.iter().enumerate() {
                let last = i + 1 == row.len();
                let pad = if last { 0 } else { widths[i] - cell.text.chars().count() + 2 };
                write!(f, "{cell}{:pad$}", "")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Puts results on stdout. Whoever closes it (`| head`) has read enough, and that is no failure.
pub(crate) fn print(text: impl fmt::Display) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A length of time as people say it: `3s`, `4m10s`, `2h05m`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_text_not_as_their_colours() {
        let mut table = Table::new(["POD", "STATUS"]);
        table.row(["order-0".into(), paint(GOOD, "ready")]);
        table.row([paint(BOLD, "x"), "no".into()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "  POD      STATUS\n  order-0  ready\n  x        no\n");
    }

    #[test]
    fn ages_read_as_people_say_them() {
        assert_eq!([age(3), age(250), age(7500)], ["3s", "4m10s", "2h05m"]);
    }
}
