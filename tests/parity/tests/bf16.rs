//! Masks in bfloat16 are those in float32 but for a few voxels of the border.

use adaptmedseg_model::nn::has_fast_bf16;
use adaptmedseg_parity::{built_in_at, bundles, data_folder, golden_model, pipeline_run, skipped, tolerance};
use adaptmedseg_segment::volume::{ReadOptions, read, read_labels};
use adaptmedseg_segment::{EngineOptions, Hooks, Model, Precision, Session};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Voxels in both masks, and in one and the other.
#[derive(Default)]
struct Overlap {
    both: usize,
    single: usize,
}

impl Overlap {
    fn add(&mut self, a: &[u8], b: &[u8]) {
        assert_eq!(a.len(), b.len());
        self.both += a.iter().zip(b).filter(|&(&a, &b)| a == 1 && b == 1).count();
        self.single += a.iter().chain(b).filter(|&&voxel| voxel == 1).count();
    }

    fn check(&self, name: &str) {
        let dice = 2.0 * self.both as f64 / self.single as f64;
        println!("{name}: {} voxels, Dice {dice:.5}", self.single / 2);
        assert!(dice >= tolerance::BF16_DICE, "{name}: Dice {dice} of bfloat16 with float32");
    }
}

/// The folder of volumes, where there is something to compare.
fn data() -> Option<std::path::PathBuf> {
    if !has_fast_bf16() {
        skipped("this processor has no AVX512-BF16: masks in bfloat16 are not compared");
        return None;
    }
    data_folder()
}

#[test]
fn golden_pipelines_in_bfloat16() {
    let bundles = bundles("pipeline", "pipe_");
    let Some(data) = data() else { return };
    for bundle in bundles {
        let [wanted, got] = [Precision::F32, Precision::Bf16].map(|precision| {
            let session =
                pipeline_run(&bundle, &data, &golden_model(&bundle, &|source| built_in_at(source, precision)));
            session.outcome().expect("just computed").mask().data
        });
        let mut overlap = Overlap::default();
        overlap.add(&wanted, &got);
        overlap.check(&bundle.name);
    }
}

/// The built-in model on every structure of the real scans. Small ones count by their voxels: in a mask of a hundred a
/// single voxel would decide.
#[test]
fn real_scans_in_bfloat16() {
    let Some(data) = data() else { return };
    let models = [Precision::F32, Precision::Bf16].map(|precision| {
        let options = EngineOptions { precision, ..EngineOptions::default() };
        Model::open(Path::new("builtin"), &options).expect("it is built in")
    });
    for name in ["ct_abdomen", "mr_abdomen"] {
        let read_options = ReadOptions::default();
        let image = Arc::new(read(&data.join(format!("{name}.nii.gz")), &read_options).expect("a scan"));
        let labels = read_labels(&data.join(format!("{name}_labels.nii.gz")), &read_options).expect("its labels").data;
        let mut overlap = Overlap::default();
        let mut sessions = models.each_ref().map(|model| Session::new(model, image.clone()).expect("a usable image"));
        for id in labels.iter().copied().filter(|&label| label != 0).collect::<BTreeSet<_>>() {
            let truth: Vec<u8> = labels.iter().map(|&label| u8::from(label == id)).collect();
            let [wanted, got] = sessions.each_mut().map(|session| {
                session.clear_prompts();
                session.set_box_from_mask(&truth).expect("a structure");
                session.segment(&Hooks::default()).expect("a run").mask().data
            });
            overlap.add(&wanted, &got);
        }
        overlap.check(name);
    }
}
