"""Times one window of SegVol's image encoder in other engines, and says the times as JSON.

Each engine runs in a process of its own (``compare.py ENGINE``), so that none has another's memory or threads. The network
is a plain ViT-B of SegVol's sizes with random weights: times do not depend on them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Callable

import numpy as np

DEPTH, HEIGHT, WIDTH = WINDOW = (32, 256, 256)
PATCH = (4, 16, 16)
DIM, HEADS, LAYERS, MLP = 768, 12, 12, 3072
GRID = tuple(size // patch for size, patch in zip(WINDOW, PATCH))
TOKENS = GRID[0] * GRID[1] * GRID[2]


def network():
    """The encoder in torch.nn: patches, pre-norm blocks, final norm."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
            self.qkv, self.out_proj = nn.Linear(DIM, 3 * DIM, bias=False), nn.Linear(DIM, DIM)
            self.linear1, self.linear2 = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

        def attention(self, x):
            q, k, v = self.qkv(x).reshape(1, TOKENS, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
            # As the original computes it: explicit products and softmax.
            weights = torch.softmax(q @ k.transpose(-1, -2) * (DIM // HEADS) ** -0.5, dim=-1)
            return self.out_proj((weights @ v).transpose(1, 2).reshape(1, TOKENS, DIM))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.linear2(nn.functional.gelu(self.linear1(self.norm2(x))))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Linear(PATCH[0] * PATCH[1] * PATCH[2], DIM)
            self.places = nn.Parameter(torch.randn(1, TOKENS, DIM) * 0.02)
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm = nn.LayerNorm(DIM)

        def forward(self, image):
            (d, h, w), (pd, ph, pw) = GRID, PATCH
            patches = image.reshape(d, pd, h, ph, w, pw).permute(0, 2, 4, 1, 3, 5).reshape(1, TOKENS, pd * ph * pw)
            x = self.patches(patches) + self.places
            for block in self.blocks:
                x = block(x)
            return self.norm(x)

    torch.manual_seed(1)
    return Encoder().eval()


def keep_heap() -> None:
    """Lets glibc keep what it has got from the system: no fresh pages for every intermediate result."""
    import ctypes

    m_trim_threshold, m_mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    for option in (m_mmap_threshold, m_trim_threshold):
        if libc.mallopt(option, 1 << 30) != 1:
            raise OSError("mallopt refuses")


def torch_pass(image: np.ndarray, threads: int, bf16: bool, cuda: bool) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    model, tensor = network(), torch.from_numpy(image)
    if bf16:
        model, tensor = model.bfloat16(), tensor.bfloat16()
    if cuda:
        # float32 products stay float32 ones: PyTorch's default.
        model = model.cuda()

    def run() -> object:
        with torch.inference_mode():
            if not cuda:
                return model(tensor)
            result = model(tensor.cuda())
            torch.cuda.synchronize()
            return result

    return run


def onnx_file(folder: Path) -> Path:
    """The network as ONNX, written once."""
    import torch

    path = folder / "encoder.onnx"
    if not path.exists():
        torch.onnx.export(network(), (torch.zeros(WINDOW),), path, input_names=["image"], dynamo=False, opset_version=17)
    return path


def onnxruntime_pass(image: np.ndarray, threads: int, folder: Path) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx_file(folder), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


def openvino_pass(image: np.ndarray, threads: int, bf16: bool, folder: Path) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = core.compile_model(core.read_model(onnx_file(folder)), "CPU", config)
    return lambda: model([image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", help="torch, torch-kept, onnxruntime or openvino")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--cuda", action="store_true", help="torch on the GPU")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True, help="where the ONNX file is kept")
    arguments = parser.parse_args()
    if arguments.engine == "torch-kept":
        keep_heap()
    image = np.random.default_rng(1).random(WINDOW, dtype=np.float32)
    if arguments.engine.startswith("torch"):
        run = torch_pass(image, arguments.threads, arguments.bf16, arguments.cuda)
    elif arguments.engine == "onnxruntime":
        run = onnxruntime_pass(image, arguments.threads, arguments.folder)
    else:
        run = openvino_pass(image, arguments.threads, arguments.bf16, arguments.folder)
    run()
    seconds = []
    for _ in range(arguments.turns):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"seconds": statistics.median(seconds), "peak_mb": peak}))


if __name__ == "__main__":
    main()
