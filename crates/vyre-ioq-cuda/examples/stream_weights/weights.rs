//! Weight files: the tensors and where their bytes are, and an example file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo, View};

use crate::common::{Error, mix};

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// Offset of its first byte in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A layer's tensors, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) tensors: Vec<Tensor>,
}

/// Largest accepted header: longer than any real one, and short enough to read.
const MOST_HEADER: u64 = 100_000_000;

/// Returns the layers of a safetensors file, in order. Tensors without bytes are left out.
pub(crate) fn layers(file: &File, path: &Path) -> Result<Vec<Layer>, Error> {
    let unfit = |what: &str| Error::Unfit(format!("{}: {what}", path.display()));
    let mut length = [0; 8];
    let read = file.read_exact_at(&mut length, 0);
    read.map_err(Error::file(path))?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER {
        return Err(unfit(
            "not a safetensors file: its header would be too long",
        ));
    }
    let mut header = vec![0; length as usize];
    let read = file.read_exact_at(&mut header, 8);
    read.map_err(Error::file(path))?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| unfit(&format!("not a safetensors file: {error}")))?;
    let size = file.metadata().map_err(Error::file(path))?.len();
    let data = 8 + length;

    let mut layers: BTreeMap<(String, u64), Vec<Tensor>> = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let tensor = tensor(name, info, data);
        if tensor.offset.saturating_add(tensor.bytes) > size {
            return Err(unfit("it is cut off: copy it anew"));
        }
        if tensor.bytes > 0 {
            layers
                .entry(layer_of(&tensor.name))
                .or_default()
                .push(tensor);
        }
    }
    if layers.is_empty() {
        return Err(unfit("it holds no weights"));
    }
    let in_order = layers.into_iter().map(|((prefix, number), mut tensors)| {
        tensors.sort_by_key(|tensor| tensor.offset);
        let name = match prefix.as_str() {
            "" => "(no layer)".to_owned(),
            prefix => format!("{prefix}.{number}"),
        };
        Layer { name, tensors }
    });
    Ok(in_order.collect())
}

fn tensor(name: String, info: &TensorInfo, data: u64) -> Tensor {
    let (begin, end) = info.data_offsets;
    Tensor {
        name,
        dtype: info.dtype,
        offset: data.saturating_add(begin as u64),
        bytes: end.saturating_sub(begin) as u64,
    }
}

/// Splits a tensor's name at its first number, as into `model.layers` and 12. Tensors without a
/// number, such as embeddings, form a layer before all others.
fn layer_of(name: &str) -> (String, u64) {
    let parts: Vec<&str> = name.split('.').collect();
    let numbered = parts.iter().enumerate().find_map(|(at, part)| {
        let number = part.parse().ok()?;
        Some((parts[..at].join("."), number))
    });
    numbered.unwrap_or_default()
}

/// A tensor of the example: its values are made when they are written.
struct Made {
    dtype: Dtype,
    shape: Vec<usize>,
    seed: u64,
}

impl View for Made {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let count = self.shape.iter().product::<usize>() as u64;
        let mut bytes = Vec::with_capacity(self.data_len());
        for index in 0..count {
            // Magnitudes from 2^-8 to 2^-1, of either sign, as trained weights have.
            let random = mix(self.seed ^ index << 20);
            let (sign, exponent) = ((random >> 63) as u32, (random % 8) as u32);
            let fraction = (random >> 32) as u32 & 0x7f_ffff;
            match self.dtype {
                Dtype::F16 => {
                    let half = sign << 15 | (15 - 8 + exponent) << 10 | fraction >> 13;
                    bytes.extend_from_slice(&(half as u16).to_le_bytes());
                }
                dtype => {
                    let single = sign << 31 | (127 - 8 + exponent) << 23 | fraction;
                    let from = if dtype == Dtype::BF16 { 2 } else { 0 };
                    bytes.extend_from_slice(&single.to_le_bytes()[from..]);
                }
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes the weights of a small language model, as close to `size` bytes as whole layers allow:
/// bf16 projections, f16 gates, f32 norms.
pub(crate) fn write_example(path: &Path, size: u64) -> Result<(), Error> {
    const LAYERS: u64 = 8;
    // A layer has 10 matrices of hidden × hidden values of 2 bytes, about; the embedding has 8.
    let hidden = (size as f64 / (LAYERS * 10 + 8) as f64 / 2.0).sqrt() as usize;
    let hidden = (hidden / 8 * 8).max(8);
    let mut tensors = Vec::new();
    let mut add = |name: String, dtype, shape: &[usize]| {
        let (seed, shape) = (mix(tensors.len() as u64 + 1), shape.to_vec());
        tensors.push((name, Made { dtype, shape, seed }));
    };
    add(
        "model.embed_tokens.weight".into(),
        Dtype::BF16,
        &[8 * hidden, hidden],
    );
    add("model.norm.weight".into(), Dtype::F32, &[hidden]);
    for layer in 0..LAYERS {
        let mut add = |part: &str, dtype, shape: &[usize]| {
            add(format!("model.layers.{layer}.{part}.weight"), dtype, shape);
        };
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{part}"), Dtype::BF16, &[hidden, hidden]);
        }
        add("mlp.gate_proj", Dtype::F16, &[2 * hidden, hidden]);
        add("mlp.up_proj", Dtype::BF16, &[2 * hidden, hidden]);
        add("mlp.down_proj", Dtype::BF16, &[hidden, 2 * hidden]);
        add("input_layernorm", Dtype::F32, &[hidden]);
        // Of an odd length, so that what follows is not aligned to more than its values.
        add("self_attn.sinks", Dtype::BF16, &[hidden + 1]);
    }
    safetensors::serialize_to_file(tensors, None, path)
        .map_err(|error| Error::Unfit(format!("{}: {error}", path.display())))
}
