//! Records: fields one after another. The tables of the specification and the C header are made from them.

use super::field::Field;
use super::packet::DecodeError;

/// A field, as the specification lists it.
#[derive(Clone, Copy, Debug)]
pub struct FieldRow {
    /// Name of the field.
    pub name: &'static str,
    /// Type: `u16`, `u32`, `u64` or `text`.
    pub kind: &'static str,
    /// Bytes of the field.
    pub bytes: usize,
    /// Meaning, as plain text.
    pub meaning: &'static str,
}

/// The fields of a body, of the head of a page, or of an entry.
pub(super) trait Record: Sized {
    /// Name, as the specification gives it.
    const NAME: &'static str;
    /// Bytes of all fields.
    const BYTES: usize;
    /// The fields, in order.
    const FIELDS: &'static [FieldRow];

    /// Appends the fields.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads the fields from the beginning of a body, and ignores the bytes behind them.
    fn get(body: &[u8]) -> Result<Self, DecodeError>;
}

/// Takes the bytes of a field from the beginning of a body.
pub(super) fn take<F: Field>(
    body: &mut &[u8],
    name: &'static str,
    field: &'static str,
) -> Result<F, DecodeError> {
    let short = DecodeError::BodyTooShort {
        name,
        need: F::BYTES,
        have: body.len(),
    };
    let (bytes, rest) = body.split_at_checked(F::BYTES).ok_or(short)?;
    *body = rest;
    F::get(bytes).ok_or(DecodeError::BadText { name, field })
}

/// Defines a struct of fields. The documentation of a field is also its meaning in the specification and its
/// comment in the C header: plain text, without links.
macro_rules! record {
    (
        $(#[$about:meta])+
        $name:ident = $title:literal {
            $($(#[doc = $meaning:literal])+ $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $field: $type,)*
        }

        impl Record for $name {
            const NAME: &'static str = $title;
            const BYTES: usize = 0 $(+ <$type as Field>::BYTES)*;
            const FIELDS: &'static [FieldRow] = &[$(FieldRow {
                name: stringify!($field),
                kind: <$type as Field>::TYPE,
                bytes: <$type as Field>::BYTES,
                meaning: concat!($($meaning),+),
            }),*];

            #[allow(unused_variables, reason = "a record may have no fields")]
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            #[allow(unused_mut, unused_variables, reason = "a record may have no fields")]
            fn get(mut body: &[u8]) -> Result<Self, DecodeError> {
                if body.len() < Self::BYTES {
                    return Err(DecodeError::BodyTooShort {
                        name: Self::NAME,
                        need: Self::BYTES,
                        have: body.len(),
                    });
                }
                Ok(Self { $($field: take(&mut body, Self::NAME, stringify!($field))?,)* })
            }
        }
    };
}

pub(super) use record;
