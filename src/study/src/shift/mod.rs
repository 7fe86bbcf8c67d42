//! Controlled shifts of an image: what a scanner, a patient or another modality may do to it, in five graded severities.
//!
//! A shift is applied in physical space: distances are millimetres, and the same seed and name give the same shift
//! whatever its severity, so that severities differ in strength alone. Intensities are measured by the *robust range*,
//! the 0.5th to the 99.5th percentile of the image. Changes of intensity leave the truth where it is; changes of place
//! carry it along (image linearly, masks by the nearest voxel), so that it stays the truth.
//!
//! | shift | severity 1 to 5 is |
//! |---|---|
//! | `gaussian-noise` | standard deviation, parts of the robust range |
//! | `rician-noise` | the same, of both channels of a magnitude image |
//! | `bias-field` | largest coefficient of the cubic polynomial whose exponential multiplies the image |
//! | `blur` | standard deviation of a Gaussian in mm |
//! | `gamma` | exponent, or its reciprocal, of intensities between smallest and largest |
//! | `contrast` | gain of a sigmoid over the robust range |
//! | `inversion` | where the tone curve turns round, parts of the robust range; 0 inverts all |
//! | `ghosting` | strength of displaced copies |
//! | `spike` | amplitude of plane waves, parts of the robust range |
//! | `anisotropy` | slice thickness along one axis, in voxels of before |
//! | `rotation` | degrees about an axis through the middle |
//! | `scaling` | magnification, or its reciprocal |
//! | `elastic` | largest displacement in mm along each axis |
//! | `crop` | part of the field of view that is kept along each axis |
//! | `tissue-remap` | how far regions go to a new, random mean intensity; 1: all the way |

mod anisotropy;
mod artefact;
mod bias;
mod blur;
mod noise;
mod place;
mod range;
mod remap;
mod tone;

use crate::error::{Error, Result};
use crate::random::{Use, generator, number_of};
use adaptmedseg_volume::{Geometry, Volume};
use place::Placement;
pub(crate) use place::direction;
pub(crate) use range::Range;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Severities of every shift.
pub const SEVERITIES: u8 = 5;

/// The families of shifts; see the [module](self) for what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the table of the module has them")]
pub enum ShiftKind {
    GaussianNoise,
    RicianNoise,
    BiasField,
    Blur,
    Gamma,
    Contrast,
    Inversion,
    Ghosting,
    Spike,
    Anisotropy,
    Rotation,
    Scaling,
    Elastic,
    Crop,
    TissueRemap,
}

impl ShiftKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::GaussianNoise,
        Self::RicianNoise,
        Self::BiasField,
        Self::Blur,
        Self::Gamma,
        Self::Contrast,
        Self::Inversion,
        Self::Ghosting,
        Self::Spike,
        Self::Anisotropy,
        Self::Rotation,
        Self::Scaling,
        Self::Elastic,
        Self::Crop,
        Self::TissueRemap,
    ];

    /// Its name in arguments and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian-noise",
            Self::RicianNoise => "rician-noise",
            Self::BiasField => "bias-field",
            Self::Blur => "blur",
            Self::Gamma => "gamma",
            Self::Contrast => "contrast",
            Self::Inversion => "inversion",
            Self::Ghosting => "ghosting",
            Self::Spike => "spike",
            Self::Anisotropy => "anisotropy",
            Self::Rotation => "rotation",
            Self::Scaling => "scaling",
            Self::Elastic => "elastic",
            Self::Crop => "crop",
            Self::TissueRemap => "tissue-remap",
        }
    }

    /// What severities 1 to 5 are, in the units of the [module](self)'s table.
    pub fn strengths(self) -> [f64; SEVERITIES as usize] {
        match self {
            Self::GaussianNoise | Self::RicianNoise => noise::DEVIATION,
            Self::BiasField => bias::COEFFICIENT,
            Self::Blur => blur::DEVIATION_MM,
            Self::Gamma => tone::EXPONENT,
            Self::Contrast => tone::GAIN,
            Self::Inversion => tone::TURN,
            Self::Ghosting => artefact::GHOST,
            Self::Spike => artefact::WAVE,
            Self::Anisotropy => anisotropy::THICKNESS,
            Self::Rotation => place::DEGREES,
            Self::Scaling => place::MAGNIFICATION,
            Self::Elastic => place::DISPLACEMENT_MM,
            Self::Crop => place::KEPT,
            Self::TissueRemap => remap::WEIGHT,
        }
    }

    /// Whether the truth moves with the image.
    pub fn moves(self) -> bool {
        matches!(self, Self::Rotation | Self::Scaling | Self::Elastic | Self::Crop)
    }
}

/// A shift of one severity, such as `rician-noise:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shift {
    kind: ShiftKind,
    severity: u8,
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.severity)
    }
}

impl FromStr for Shift {
    type Err = String;

    /// Reads `NAME:SEVERITY`. The message of an unknown name lists the known ones.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, severity) = text
            .split_once(':')
            .ok_or_else(|| format!("shift {text:?} has no severity: write NAME:SEVERITY, such as rician-noise:3"))?;
        let known = || ShiftKind::ALL.map(ShiftKind::name).join(", ");
        let kind = ShiftKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("unknown shift {name:?}: it is one of {}", known()))?;
        match severity.parse() {
            Ok(severity @ 1..=SEVERITIES) => Ok(Self { kind, severity }),
            _ => Err(format!("severity {severity:?} of {name}: it is a number from 1 to {SEVERITIES}")),
        }
    }
}

/// The shifts that an argument means: `NAME:SEVERITY`, `NAME` for all its severities, `all` for all there are.
///
/// # Errors
/// An unknown name or severity; the message lists the known ones.
pub fn parse_shifts(text: &str) -> Result<Vec<Shift>, String> {
    let graded = |kind| (1..=SEVERITIES).map(move |severity| Shift { kind, severity });
    if text == "all" {
        return Ok(ShiftKind::ALL.into_iter().flat_map(graded).collect());
    }
    match ShiftKind::ALL.into_iter().find(|kind| kind.name() == text) {
        Some(kind) => Ok(graded(kind).collect()),
        None if text.contains(':') => Ok(vec![text.parse()?]),
        // An unknown name is a more useful message than a severity that is missing.
        None => Err(format!("{text}:1").parse::<Shift>().expect_err("not a name")),
    }
}

/// What was drawn for a shift, by name: enough to repeat it with other tools.
pub type Parameters = BTreeMap<&'static str, Vec<f64>>;

/// A shifted image.
#[derive(Clone, Debug)]
pub struct Shifted {
    /// The image; its grid is another only where the field of view was cropped.
    pub image: Volume<f32>,
    /// What was drawn.
    pub parameters: Parameters,
    placement: Placement,
    before: Geometry,
}

impl Shifted {
    /// Carries a mask of the image of before to the shifted one: one byte per voxel, i fastest.
    ///
    /// # Panics
    /// If the mask does not have as many voxels as the image of before.
    pub fn carry(&self, mask: &[u8]) -> Vec<u8> {
        assert_eq!(mask.len(), self.before.voxel_count(), "one byte per voxel");
        self.placement.carry(mask, &self.before)
    }
}

impl Shift {
    /// A shift.
    ///
    /// # Panics
    /// If the severity is not from 1 to 5.
    pub fn new(kind: ShiftKind, severity: u8) -> Self {
        assert!((1..=SEVERITIES).contains(&severity), "severity {severity}");
        Self { kind, severity }
    }

    /// Its family.
    pub fn kind(self) -> ShiftKind {
        self.kind
    }

    /// From 1 to 5.
    pub fn severity(self) -> u8 {
        self.severity
    }

    /// Shifts an image. `names` say which image it is: with the seed they decide everything random. `regions` numbers
    /// the tissue of each voxel, 0 for none; `tissue-remap` needs it, no other shift does.
    ///
    /// # Errors
    /// `tissue-remap` without regions.
    pub fn apply(self, image: &Volume<f32>, regions: Option<&[u32]>, seed: u64, names: &[&str]) -> Result<Shifted> {
        let named: Vec<&str> = names.iter().copied().chain([self.kind.name()]).collect();
        let random = &mut generator(seed, Use::Shift, number_of(&named));
        let strength = self.kind.strengths()[usize::from(self.severity) - 1];
        let parameters = &mut Parameters::new();
        let mut shifted = image.clone();
        let mut placement = Placement::Same;
        match self.kind {
            ShiftKind::GaussianNoise => noise::gaussian(&mut shifted, strength, random, parameters),
            ShiftKind::RicianNoise => noise::rician(&mut shifted, strength, random, parameters),
            ShiftKind::BiasField => bias::apply(&mut shifted, strength, random, parameters),
            ShiftKind::Blur => blur::apply(&mut shifted, strength, parameters),
            ShiftKind::Gamma => tone::gamma(&mut shifted, strength, random, parameters),
            ShiftKind::Contrast => tone::contrast(&mut shifted, strength, parameters),
            ShiftKind::Inversion => tone::inversion(&mut shifted, strength, parameters),
            ShiftKind::Ghosting => artefact::ghosting(&mut shifted, strength, random, parameters),
            ShiftKind::Spike => artefact::spike(&mut shifted, strength, random, parameters),
            ShiftKind::Anisotropy => anisotropy::apply(&mut shifted, strength, random, parameters),
            ShiftKind::Rotation => placement = place::rotation(&image.geometry, strength, random, parameters),
            ShiftKind::Scaling => placement = place::scaling(&image.geometry, strength, random, parameters),
            ShiftKind::Elastic => placement = place::elastic(strength, random, parameters),
            ShiftKind::Crop => placement = place::crop(&image.geometry, strength, random, parameters),
            ShiftKind::TissueRemap => {
                let regions = regions.ok_or_else(|| {
                    Error::argument("tissue-remap without regions", "give the structures of the image")
                })?;
                remap::apply(&mut shifted, regions, strength, random, parameters);
            }
        }
        if self.kind.moves() {
            shifted = placement.image(image);
        }
        let (parameters, before) = (std::mem::take(parameters), image.geometry.clone());
        Ok(Shifted { image: shifted, parameters, placement, before })
    }
}

#[cfg(test)]
mod tests;
