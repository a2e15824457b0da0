use std::fs::File;
use std::time::Duration;

use bytemuck::Zeroable;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use stream::{Plan, Streamed, Totals};
use tempfile::NamedTempFile;
use vyre_ioq_cuda::view::DeviceView;
use weights::Layer;

use crate::common::{Device, Error, Way};
use crate::{assert_past_the_end, file_of, flip, gpu, threads, wrong};

#[path = "../../examples/stream_weights/stream.rs"]
pub(crate) mod stream;
#[path = "../../examples/stream_weights/weights.rs"]
pub(crate) mod weights;

/// More than what the lanes of a warp have on their way at once, and not a multiple of it.
const BLOCK: u32 = 2304;

/// Tensors that a model may have: of each type, longer than a block and shorter, and not of whole
/// units. With values that are zero, subnormal, infinite and not a number.
fn tensors() -> Vec<(&'static str, Dtype, Vec<u8>)> {
    let single = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let half = |values: &[u16]| values.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let long: Vec<f32> = (0..1500_u16).map(|n| f32::from(n) / 8.0 - 3.0).collect();
    let inf_nan = [1.0, f32::INFINITY, -2.5, f32::NAN];
    // 1, -2, the least subnormal, infinite, zero.
    let f16 = [0x3c00, 0xc000, 0x0001, 0x7c00, 0x8000];
    let bf16: Vec<u16> = (0..131)
        .map(|n| if n == 130 { 0xff80 } else { 0x3f80 })
        .collect();
    vec![
        ("embed.weight", Dtype::F32, single(&long)),
        ("layers.10.a", Dtype::F16, half(&f16)),
        ("layers.2.a", Dtype::F32, single(&inf_nan)),
        ("layers.2.b", Dtype::BF16, half(&bf16)),
        (
            "layers.2.c",
            Dtype::U8,
            (0..=255).cycle().take(5001).collect(),
        ),
        ("layers.2.none", Dtype::F32, Vec::new()),
    ]
}

pub(crate) fn file() -> (NamedTempFile, Vec<Layer>) {
    let tensors = tensors();
    let views = tensors.iter().map(|(name, dtype, bytes)| {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        (
            *name,
            TensorView::new(*dtype, shape, bytes).expect("as long"),
        )
    });
    let bytes = safetensors::serialize(views, None).expect("tensors");
    let (file, path) = file_of(&bytes);
    let layers = weights::layers(file.as_file(), &path).expect("layers");
    (file, layers)
}

fn run(device: &mut Device, file: &File, layers: &[Layer], way: Way) -> Result<Streamed, Error> {
    let plan = Plan {
        view: device.view(file, way)?,
        warps: 2,
        loops: 1,
        block_size: BLOCK,
    };
    stream::stream(device, file, layers, plan)
}

#[test]
fn layers_are_those_of_the_names_in_order() {
    let (_, layers) = file();
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["(no layer)", "layers.2", "layers.10"]);
    let counts: Vec<usize> = layers.iter().map(|layer| layer.tensors.len()).collect();
    assert_eq!(counts, [1, 3, 1], "none without bytes");
}

#[test]
fn the_example_is_as_large_as_asked_for_and_has_every_type() {
    let (file, path) = file_of(&[]);
    weights::write_example(&path, 4 << 20).expect("room");
    let file = File::open(&path)
        .map(|opened| (opened, file))
        .expect("there");
    let size = file.0.metadata().expect("a file").len();
    assert!((3 << 20..5 << 20).contains(&size), "{size} bytes");
    let layers = weights::layers(&file.0, &path).expect("layers");
    assert_eq!(layers.len(), 9);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let mut tensors = layers[8].tensors.iter();
        assert!(tensors.any(|tensor| tensor.dtype == dtype), "{dtype:?}");
    }
}

#[test]
fn what_is_no_file_of_weights_is_refused() {
    let (whole, _) = file();
    let bytes = std::fs::read(whole.path()).expect("the file");
    let cut = bytes.len() - 1;
    for (contents, says) in [
        (&bytes[..cut], "cut off"),
        (&b"\xff\xff\xff\xff\xff\xff\xff\xff"[..], "too long"),
        (&b"\x02\0\0\0\0\0\0\0[]"[..], "not a safetensors file"),
        (&b"\x02\0\0\0\0\0\0\0{}"[..], "no weights"),
    ] {
        let (file, path) = file_of(contents);
        let error = weights::layers(file.as_file(), &path).expect_err("refused");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn threads_stream_every_layer_and_the_cpu_finds_the_same() {
    let (file, layers) = file();
    let queue = run(&mut threads(), file.as_file(), &layers, Way::Queue);
    let streamed = queue.expect("an orderly end");
    assert!(streamed.elapsed > Duration::ZERO);
    let mut found = Vec::new();
    let verified = streamed.verify(file.as_file(), file.path(), &layers, |tensor, totals| {
        found.push((tensor.name.clone(), totals));
    });
    verified.expect("the same");
    let totals = |sum, largest, odd| Totals { sum, largest, odd };
    let expected = [
        // 0 to 1499, eighths; less 3 each.
        (
            "embed.weight",
            totals(1499.0 * 1500.0 / 16.0 - 4500.0, 1499.0 / 8.0 - 3.0, 0),
        ),
        ("layers.2.a", totals(-1.5, 2.5, 2)),
        ("layers.2.b", totals(130.0, 1.0, 1)),
        ("layers.2.c", totals(0.0, 0.0, 0)),
        (
            "layers.10.a",
            totals(f64::from(2_f32.powi(-24)) - 1.0, 2.0, 1),
        ),
    ];
    assert_eq!(
        found,
        expected.map(|(name, totals)| (name.to_owned(), totals))
    );

    // A bit that is other for the CPU than it was for the kernel: in the last layer, and in the first,
    // which changes what the others' digests are.
    for (layer, name) in [(2, "layers.10.a"), (0, "embed.weight")] {
        let tensor = &layers[layer].tensors[0];
        flip(file.as_file(), tensor.offset + tensor.bytes - 1);
        let text = wrong(streamed.verify(file.as_file(), file.path(), &layers, |_, _| ()));
        assert!(text.starts_with(name), "{text}");
    }
}

/// Tensors begin at any byte of the file.
#[test]
fn threads_find_the_same_in_a_view() {
    let (file, layers) = file();
    let skips = layers.iter().flat_map(|layer| &layer.tensors);
    let skips: Vec<u64> = skips.map(|tensor| tensor.offset % 16).collect();
    assert!(skips.iter().any(|skip| skip % 4 != 0), "{skips:?}");
    let view = run(&mut threads(), file.as_file(), &layers, Way::View);
    let streamed = view.expect("an orderly end");
    let verified = streamed.verify(file.as_file(), file.path(), &layers, |_, _| ());
    verified.expect("the same");
}

#[test]
fn a_file_that_shrinks_ends_all_warps() {
    let (file, layers) = file();
    file.as_file()
        .set_len(layers[0].tensors[0].offset + 3000)
        .expect("shorter");
    let ended = run(&mut threads(), file.as_file(), &layers, Way::Queue);
    assert_past_the_end(ended);
}

#[test]
fn blocks_are_of_whole_units() {
    let (file, layers) = file();
    let plan = Plan {
        view: DeviceView::zeroed(),
        warps: 1,
        loops: 1,
        block_size: 100,
    };
    let refused = stream::stream(&mut threads(), file.as_file(), &layers, plan);
    assert!(matches!(refused, Err(Error::Unfit(_))), "{refused:?}");
}

#[test]
fn a_gpu_streams_every_layer_and_the_cpu_finds_the_same() {
    let Some(mut device) = gpu("a_gpu_streams_every_layer_and_the_cpu_finds_the_same") else {
        return;
    };
    // Every kind of value, then a file with more blocks than warps.
    let (small, layers) = file();
    for way in [Way::Queue, Way::Auto] {
        let streamed = run(&mut device, small.as_file(), &layers, way).expect("an orderly end");
        let verified = streamed.verify(small.as_file(), small.path(), &layers, |_, _| ());
        verified.expect("the same");
    }

    let (file, path) = file_of(&[]);
    weights::write_example(&path, 32 << 20).expect("room");
    let opened = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("there");
    let layers = weights::layers(&opened, &path).expect("layers");
    for way in [Way::Queue, Way::Auto] {
        let view = device.view(&opened, way).expect("a view, or none");
        let warps = device.warps(None, !view.is_empty());
        let plan = Plan {
            view,
            warps: warps.expect("it suits"),
            loops: 2,
            block_size: 64 << 10,
        };
        let streamed = stream::stream(&mut device, &opened, &layers, plan).expect("an orderly end");
        let verified = streamed.verify(&opened, &path, &layers, |_, _| ());
        verified.expect("the same");
        flip(&opened, layers[5].tensors[1].offset);
        wrong(streamed.verify(&opened, &path, &layers, |_, _| ()));
    }
    drop(file);
}
