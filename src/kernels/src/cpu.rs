//! Choice of instruction set at run time.
//!
//! A [`Kernel`] is written once, as plain loops over blocks of [`LANES`] numbers that the compiler turns into vector
//! instructions. [`Cpu::run`] holds one compiled copy for each instruction set and picks the machine's.

/// Numbers that a kernel treats together: two registers of AVX-512, four of AVX2, eight of SSE2 or NEON.
pub(crate) const LANES: usize = 32;

/// Work that is worth compiling for several instruction sets.
pub(crate) trait Kernel {
    /// Does the work. `FMA` says whether the processor multiplies and adds in one instruction.
    ///
    /// Implementations are `#[inline(always)]`, and so is all they call: only then is the body compiled with the
    /// instructions of the function it was inlined into.
    fn run<const FMA: bool>(self);
}

/// An instruction set that this machine is known to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu(Level);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target guarantees.
    Baseline,
}

/// Whether this is a processor with AVX-512, for which float32 products have a kernel of their own.
pub fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Cpu::detect().is_avx512();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Cpu {
    /// The widest instruction set of this machine. (The standard library remembers what it detected.)
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")
            {
                return Self(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self(Level::Avx2);
            }
        }
        Self(Level::Baseline)
    }

    /// Whether this is AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_avx512(self) -> bool {
        self.0 == Level::Avx512
    }

    /// Every instruction set that can be tested on this machine, the widest first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let best = Self::detect();
        let mut all = vec![best];
        #[cfg(target_arch = "x86_64")]
        if best.0 == Level::Avx512 {
            all.push(Self(Level::Avx2));
        }
        if best.0 != Level::Baseline {
            all.push(Self(Level::Baseline));
        }
        all
    }

    /// Runs `kernel` with this instruction set.
    #[inline]
    pub(crate) fn run(self, kernel: impl Kernel) {
        match self.0 {
            // SAFETY: `Level` is private to this module, and `detect` and `available` hand out `Avx512` only after
            // every feature that `avx512` enables was detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512(kernel) },
            // SAFETY: `Avx2` is handed out only where AVX2 and FMA were detected: by `detect` itself, or by
            // `available` on a machine with AVX-512F, which includes AVX2, and FMA.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(kernel) },
            Level::Baseline => kernel.run::<{ cfg!(any(target_arch = "aarch64", target_feature = "fma")) }>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
fn avx512(kernel: impl Kernel) {
    kernel.run::<true>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(kernel: impl Kernel) {
    kernel.run::<true>();
}
