//! Tables of constants that are also data, from which headers and documents are generated.

/// A table of `ABI.md`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The kind of the numbers.
    pub about: &'static str,
    /// The heading above the table in `ABI.md`.
    pub heading: &'static str,
    /// The prefix of the names in C, after `VYRE_IOQ_`.
    pub prefix: &'static str,
    /// The head of the table, with `|` between its cells. The number and the name come first, the
    /// meaning last.
    pub columns: &'static str,
    /// The rows, in order.
    pub rows: &'static [Row],
}

/// A number of the ABI.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name in capitals.
    pub name: &'static str,
    /// The number.
    pub value: u32,
    /// The number as it is written, in decimal or hexadecimal.
    pub literal: &'static str,
    /// The last of several words that the row stands for.
    pub last: Option<u32>,
    /// The cells between the name and the meaning, with `|` between them.
    pub cells: &'static str,
    /// The meaning of the number.
    pub meaning: &'static str,
}

/// Defines a module of constants, and its `TABLE`.
///
/// The documentation of a constant is also its meaning in `ABI.md` and its comment in the headers: plain
/// text, without links.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $heading:literal, $prefix:literal, $columns:literal;
        $visibility:vis mod $module:ident {
            $(
                $(#[doc = $meaning:literal])+
                $(#[cfg($cfg:meta)])?
                $name:ident: $type:ty = $value:literal $(to $last:literal)? $(, $cells:literal)?;
            )+
        }
        $(use $($extra:item)+)?
    ) => {
        $(#[doc = $about])+
        $visibility mod $module {
            $(
                $(#[doc = $meaning])+
                $(#[cfg($cfg)])?
                pub const $name: $type = $value;
            )+
            $($($extra)+)?

            use $crate::abi::table::{Row, Table};

            pub(super) const TABLE: Table = Table {
                about: concat!($($about),+),
                heading: $heading,
                prefix: $prefix,
                columns: $columns,
                rows: &[$(Row {
                    name: stringify!($name),
                    value: $value,
                    literal: stringify!($value),
                    last: table!(@last $($last)?),
                    cells: concat!($($cells)?),
                    meaning: concat!($($meaning),+),
                }),+],
            };
        }
    };
    (@last) => { None };
    (@last $last:literal) => { Some($last) };
}
