//! The figures, as a table or as JSON.

use vyre_ioq_cuda::Gpu;

/// A figure: the median of the runs, and the least and the greatest.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    unit: &'static str,
    median: f64,
    least: f64,
    greatest: f64,
    note: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    gpu: String,
    bytes: u64,
    runs: usize,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(gpu: &Gpu, bytes: u64, runs: usize) -> Self {
        let gpu = gpu.capabilities().name.clone();
        let rows = Vec::new();
        Self {
            gpu,
            bytes,
            runs,
            rows,
        }
    }

    /// Adds the figures of one measurement.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        mut figures: Vec<f64>,
        note: impl Into<String>,
    ) {
        figures.sort_by(f64::total_cmp);
        let (Some(&least), Some(&greatest)) = (figures.first(), figures.last()) else {
            return;
        };
        let row = Row {
            what: what.into(),
            unit,
            median: figures[figures.len() / 2],
            least,
            greatest,
            note: note.into(),
        };
        eprintln!("{}: {:.3} {}", row.what, row.median, row.unit);
        self.rows.push(row);
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
            let all = serde_json::json!({
                "gpu": self.gpu, "file_bytes": self.bytes, "runs": self.runs, "rows": rows,
            });
            return println!("{all}");
        }
        println!(
            "{}, a cached file of {} bytes, medians of {}, every byte that was read compared\n",
            self.gpu, self.bytes, self.runs
        );
        println!("| what | median | from | to | unit | |\n| --- | --- | --- | --- | --- | --- |");
        for row in &self.rows {
            println!(
                "| {} | {:.3} | {:.3} | {:.3} | {} | {} |",
                row.what, row.median, row.least, row.greatest, row.unit, row.note
            );
        }
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "what": self.what, "unit": self.unit, "median": self.median, "least": self.least,
            "greatest": self.greatest, "note": self.note,
        })
    }
}
