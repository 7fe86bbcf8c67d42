//! What is to be prepared, and how.

use super::classes::Classes;
use super::layouts::Layout;
use super::splits::Shares;
use crate::dataset::Normalisation;
use serde::{Deserialize, Serialize};

/// What is to be made of a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareOptions {
    /// How the folder is laid out; none: it is recognised.
    pub layout: Option<Layout>,
    /// Which structures are taken, and which are merged; none: all of them as they are.
    pub classes: Option<Classes>,
    /// Shares of the subjects for training, validation and test.
    pub shares: Shares,
    /// The seed of the splits.
    pub seed: u64,
    /// What is done to the intensities.
    pub normalisation: Normalisation,
    /// `CT` or `MR`, for layouts that do not say it.
    pub modality: Option<String>,
    /// Licence of the data, instead of what the source says.
    pub license: Option<String>,
    /// Name of the data set, instead of what the source says.
    pub name: Option<String>,
    /// Threads, each with a case of its own in memory; none: one for each core.
    #[serde(skip)]
    pub threads: Option<usize>,
}
