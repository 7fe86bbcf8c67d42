//! The mean of two models' weights, as the built-in model is made (Wortsman et al., arXiv 2203.05482):
//! `mean_of_models FIRST SHARE SECOND OUT` writes to OUT the model FIRST with SHARE of its own weights and the rest of SECOND's,
//! in half precision. A weight that has another shape in SECOND, as the table of words has where one knows more of them, stays
//! FIRST's, and is named.

use adaptmedseg_model::checkpoint::{Companions, ModelFolder, Precision, write_model};
use adaptmedseg_model::{NamedTensors, RawTensor};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, share, second, out] = &arguments[..] else {
        return Err("usage: mean_of_models FIRST SHARE SECOND OUT".into());
    };
    let share = share
        .parse::<f32>()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("the share {share:?} is not a number from 0 to 1"))?;
    let [first, second] = [first, second].map(|name| ModelFolder::named(Path::new(name)));
    let (first, second) = (first?, second?);
    let mut weights = NamedTensors::new();
    for (name, ..) in first.tensors().iter() {
        let own = first.tensor(name).ok_or("it was listed")?;
        let mut mean = own.to_f32();
        match second.tensor(name).filter(|other| other.shape == own.shape).as_ref().map(RawTensor::to_f32) {
            Some(other) => {
                mean.iter_mut().zip(other).for_each(|(own, other)| *own = share * *own + (1.0 - share) * other);
            }
            None => println!("{name} stays that of {}", first.path().display()),
        }
        weights.insert(name.to_owned(), (own.shape, mean));
    }
    let card = format!(
        "# Model card\n\n{share} of the weights of {}, the rest of {}'s.\n",
        first.path().display(),
        second.path().display()
    );
    let companions = Companions { tokenizer: first.tokenizer(), atlas: first.atlas(), card: &card };
    write_model(Path::new(out), false, first.config(), &weights, companions, Precision::Half)?;
    Ok(())
}
