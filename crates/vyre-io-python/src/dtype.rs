//! Types of elements.

use crate::dlpack::DataType;

/// A type of elements that files may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElementType {
    /// The name in NumPy and PyTorch.
    pub(crate) name: &'static str,
    /// The name in `__cuda_array_interface__`, which has none for the newer types.
    pub(crate) typestr: Option<&'static str>,
    pub(crate) dlpack: DataType,
}

impl ElementType {
    /// Returns the type of a name. PyTorch's are `torch.float32`, whose last part counts.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        let name = name.rsplit('.').next().unwrap_or(name);
        TYPES.iter().find(|known| known.name == name)
    }

    pub(crate) fn names() -> String {
        TYPES.map(|known| known.name).join(", ")
    }

    /// Returns the number of bytes of an element, which is also its alignment.
    pub(crate) const fn size(&self) -> u64 {
        self.dlpack.bits as u64 / 8
    }
}

const fn element(
    name: &'static str,
    typestr: Option<&'static str>,
    code: u8,
    bits: u8,
) -> ElementType {
    ElementType {
        name,
        typestr,
        dlpack: DataType {
            code,
            bits,
            lanes: 1,
        },
    }
}

/// The numbers are those of `DLDataTypeCode`.
const TYPES: [ElementType; 19] = [
    element("bool", Some("|b1"), 6, 8),
    element("uint8", Some("|u1"), 1, 8),
    element("int8", Some("|i1"), 0, 8),
    element("uint16", Some("<u2"), 1, 16),
    element("int16", Some("<i2"), 0, 16),
    element("uint32", Some("<u4"), 1, 32),
    element("int32", Some("<i4"), 0, 32),
    element("uint64", Some("<u8"), 1, 64),
    element("int64", Some("<i8"), 0, 64),
    element("float16", Some("<f2"), 2, 16),
    element("float32", Some("<f4"), 2, 32),
    element("float64", Some("<f8"), 2, 64),
    element("complex64", Some("<c8"), 5, 64),
    element("complex128", Some("<c16"), 5, 128),
    element("bfloat16", None, 4, 16),
    element("float8_e4m3fn", None, 10, 8),
    element("float8_e5m2", None, 12, 8),
    element("float8_e8m0fnu", None, 14, 8),
    element("float8_e4m3fnuz", None, 11, 8),
];
