//! The zoom-in of the default mode. What the trained weights depend on stays: the window, the overlap, the coarse pass
//! first, a coarse box beside points. What was only a mistake of the original is mended:
//!
//! * the user's own points, negative ones too, go to the windows they lie in, instead of random positives;
//! * the user's box goes to every window it meets, cut to it, instead of the coarse mask's box;
//! * prompts move with the image where it is padded;
//! * a window with nothing to go by keeps the coarse result, instead of being asked about a box at -0.5;
//! * windows lie on a grid fixed to the image, so that the next prompt finds their embeddings again.

use crate::prepare::{Located, Prepared};
use crate::windows::{self, Array, Dhw};
use adaptmedseg_engine::{TextEmbedding, WindowPrompts};

/// The prompts, in voxels of the crop.
pub(crate) struct Guide {
    pub points: Vec<(Located, bool)>,
    pub bounding_box: Option<[Located; 2]>,
    pub text: Option<TextEmbedding>,
}

/// A window to run: where its first voxel lies on the crop, and what it is asked.
pub(crate) struct Task {
    pub start: [isize; 3],
    pub prompts: WindowPrompts,
}

impl Guide {
    /// The windows worth running, and the region they are to refine: inclusive corners on the crop.
    pub(crate) fn plan(&self, image: &Prepared, coarse: &[bool], overlap: f64) -> (Option<[Dhw; 2]>, Vec<Task>) {
        let region = match self.bounding_box {
            Some([low, high]) => Some([low.crop, high.crop]),
            None => found_and_pointed(coarse, image.size, &self.points),
        };
        let Some(region) = region else { return (None, Vec::new()) };
        let axes: [Vec<isize>; 3] = std::array::from_fn(|axis| {
            let (size, window) = (image.size[axis], image.window[axis]);
            let starts: Vec<isize> = if size < window {
                vec![-(((window - size) / 2) as isize)]
            } else {
                windows::axis_starts(size, window, overlap).into_iter().map(|start| start as isize).collect()
            };
            let meets = |start: &isize| {
                *start <= region[1][axis] as isize && start + window as isize > region[0][axis] as isize
            };
            starts.into_iter().filter(meets).collect()
        });
        let mut tasks = Vec::new();
        for &d in &axes[0] {
            for &h in &axes[1] {
                for &w in &axes[2] {
                    let start = [d, h, w];
                    let prompts = self.window_prompts(image, coarse, start);
                    if !prompts.is_empty() {
                        tasks.push(Task { start, prompts });
                    }
                }
            }
        }
        (Some(region), tasks)
    }

    fn window_prompts(&self, image: &Prepared, coarse: &[bool], start: [isize; 3]) -> WindowPrompts {
        let window = image.window;
        let local = |place: Dhw| -> [isize; 3] { std::array::from_fn(|axis| place[axis] as isize - start[axis]) };
        let last = window.map(|size| size as isize - 1);
        let inside = |place: &[isize; 3]| (0..3).all(|axis| (0..=last[axis]).contains(&place[axis]));
        let mut prompts = WindowPrompts { text: self.text.clone(), ..Default::default() };
        prompts.points = self
            .points
            .iter()
            .map(|(point, positive)| (local(point.crop), i8::from(*positive)))
            .filter(|(place, _)| inside(place))
            .map(|(place, label)| (place.map(|index| index as f32), label))
            .collect();
        if let Some([low, high]) = self.bounding_box {
            let (low, high) = (local(low.crop), local(high.crop));
            if (0..3).all(|axis| high[axis] >= 0 && low[axis] <= last[axis]) {
                prompts.bounding_box = Some(std::array::from_fn(|index| {
                    let axis = index % 3;
                    (if index < 3 { low[axis].max(0) } else { high[axis].min(last[axis]) }) as f32
                }));
            } else {
                // Text alone would segment the structure beyond the box the user drew.
                return WindowPrompts::default();
            }
        } else if !self.points.is_empty() {
            let cut = Array { data: coarse, size: image.size }.cut(start, window);
            prompts.bounding_box = windows::bounding_box(&cut, window, |&set| set).map(|[low, high]| {
                std::array::from_fn(|index| if index < 3 { low[index] as f32 } else { high[index - 3] as f32 })
            });
            let positive = prompts.points.iter().any(|(_, label)| *label == 1);
            if !positive && prompts.bounding_box.is_none() && prompts.text.is_none() {
                return WindowPrompts::default();
            }
        }
        prompts
    }
}

/// The box of what is set in a mask or above 0 in logits, and of the positive points.
pub(crate) fn found_and_pointed<T: Copy + Into<f32>>(
    found: &[T],
    size: Dhw,
    points: &[(Located, bool)],
) -> Option<[Dhw; 2]> {
    let mut region = windows::bounding_box(found, size, |&value| value.into() > 0.0);
    for (point, _) in points.iter().filter(|(_, positive)| *positive) {
        let [low, high] = region.get_or_insert([point.crop; 2]);
        for axis in 0..3 {
            low[axis] = low[axis].min(point.crop[axis]);
            high[axis] = high[axis].max(point.crop[axis]);
        }
    }
    region
}
