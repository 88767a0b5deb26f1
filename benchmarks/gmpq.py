"""Does a policy searched on one data set serve another? python benchmarks/gmpq.py [--seeds 3] [--budget 3]

A small convolutional net (14 x 14 pixels, 7 x 7 places in its last feature map) is trained in float on MNIST and on
Fashion-MNIST. Widths of weights and inputs are searched on MNIST, with attribution (eta = 20) and without (eta = 0),
and deployed on Fashion-MNIST at the EBOPs of uniform bits, fine-tuned alike. Every piece is kept in
runs/benchmarks/gmpq and not made again. `--halves` searches on five classes of Fashion-MNIST and deploys on the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import datasets
import keras
import numpy as np
from datasets import Data
from keras import layers

from hgq.methods.gmpq import (
    Candidates,
    Search,
    SuperNet,
    attribution_maps,
    deploy,
    finetune,
    likeliest_within,
    rank_correlation,
    rank_distance,
    search,
    trim,
)
from hgq.methods.gmpq.cost import policy_ebops
from hgq.methods.network import fold
from hgq.methods.policy import Bits, Policy, save_policy
from hgq.resource import model_ebops

FOLDER = Path(__file__).parents[1] / "runs" / "benchmarks" / "gmpq"
SAMPLES = 12_800
SEARCH = Search(epochs=4, alpha_rate=2e-2)
FLOAT_EPOCHS = {"mnist": 3, "fashion": 6}
TUNING_EPOCHS = 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(classes: int) -> keras.Model:
    """Four convolutions and a depthwise one, pooled head: 115,000 multiplications."""

    def conv(x: keras.KerasTensor, layer: layers.Layer) -> keras.KerasTensor:
        return layers.ReLU()(layers.BatchNormalization()(layer(x)))

    x = pixels = keras.Input((14, 14, 1), name="pixels")
    x = conv(x, layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv0"))
    x = conv(x, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv1"))
    x = conv(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"))
    x = conv(x, layers.Conv2D(24, 1, use_bias=False, name="point"))
    x = conv(x, layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv2"))
    return keras.Model(pixels, layers.Dense(classes, name="scores")(layers.GlobalAveragePooling2D()(x)))


def data(name: str, classes: range = range(10)) -> Data:
    """14 x 14 pixels of some classes, numbered from 0; `SAMPLES` to train on."""
    held = getattr(datasets, name)(size=14)
    parts = {}
    for part in ("train", "val", "test"):
        x, y = getattr(held, f"x_{part}"), getattr(held, f"y_{part}")
        wanted = np.isin(y, classes)
        parts |= {f"x_{part}": x[wanted].reshape(-1, 14, 14, 1), f"y_{part}": y[wanted] - classes[0]}
    parts |= {f"{axis}_train": parts[f"{axis}_train"][:SAMPLES] for axis in "xy"}
    return replace(held, **parts)


def float_model(name: str, seed: int, held: Data) -> keras.Model:
    """The float network of a set, trained now or before."""
    path = FOLDER / f"{name}-{seed}.keras"
    if not path.is_file():
        keras.utils.set_random_seed(seed)
        epochs = FLOAT_EPOCHS[name.split("-")[0]]
        model = network(int(held.y_train.max()) + 1)
        steps = epochs * -(-len(held.x_train) // 64)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.02)), LOSS)
        model.fit(held.x_train, held.y_train, batch_size=64, epochs=epochs, verbose=0)
        model.save(path)
    return keras.models.load_model(path)


def accuracy(model: keras.Model, held: Data) -> float:
    return float((model.predict(held.x_test, batch_size=500, verbose=0).argmax(-1) == held.y_test).mean())


def searched(where: str, held: Data, seed: int, settings: Search, uniform: Bits, start: keras.Model) -> dict:
    """Shares of the candidates after a search led to the EBOPs of uniform bits."""
    path = FOLDER / f"search-{where}-{seed}-{label(settings)}-{uniform.w}{uniform.a}.json"
    if not path.is_file():
        begun = time.process_time()
        keras.utils.set_random_seed(100 + seed)
        net = SuperNet(start, held.x_train, Candidates())
        budget = policy_ebops(dict.fromkeys(net.layers, uniform), net.costs)
        history = search(net, start, held.x_train, held.y_train, replace(settings, budget=budget), tell)
        few = held.x_val[:1000]
        maps = attribution_maps(start, few), attribution_maps(net.model, few)
        shares = {name: [list(share) for share in both] for name, both in net.shares().items()}
        facts = {"ard": rank_distance(*maps), "spearman": rank_correlation(*maps), "history": history}
        path.write_text(json.dumps({"shares": shares, "cpu_s": time.process_time() - begun, **facts}, indent=1))
    return json.loads(path.read_text())


def deployed(name: str, policy: Policy, start: keras.Model, held: Data, budget: int, seed: int) -> dict:
    """What a policy reaches on the set of the deployment."""
    path = FOLDER / f"deployed-{name}.json"
    if not path.is_file():
        save_policy(policy, FOLDER / f"policy-{name}.json")
        keras.utils.set_random_seed(200 + seed)
        model = deploy(start, policy, held.x_train)
        before = accuracy(model, held)
        finetune(model, held.x_train, held.y_train, epochs=TUNING_EPOCHS)
        trimmed = trim(model, budget)
        model.save(FOLDER / f"deployed-{name}.keras")
        few = held.x_val[:1000]
        maps = attribution_maps(start, few), attribution_maps(model, few)
        found = {"before": before, "accuracy": accuracy(model, held), "ebops": model_ebops(model), "trimmed": trimmed}
        path.write_text(json.dumps(found | {"spearman": rank_correlation(*maps)}, indent=1))
    return json.loads(path.read_text())


def tell(line: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {line}", flush=True)


def label(settings: Search) -> str:
    """A search's name in files: eta, and whether p follows the widths."""
    return f"{settings.eta:g}" + ("p" if settings.p is None else "")


def shown(policy: Policy) -> str:
    return " ".join(f"{bits.w}/{bits.a}" for bits in policy.values())


def run(seed: int, uniform: Bits, halves: bool, searches: list[Search]) -> None:
    there, here = ("fashion-low", "fashion-high") if halves else ("mnist", "fashion")
    classes = {"fashion-low": range(5), "fashion-high": range(5, 10)}
    first, second = (data(name.split("-")[0], classes.get(name, range(10))) for name in (there, here))
    source, target = (fold(float_model(name, seed, held)) for name, held in ((there, first), (here, second)))
    print(f"seed {seed}: float on {there} {accuracy(source, first):.2%}, on {here} {accuracy(target, second):.2%}")
    costs = SuperNet(target, second.x_train, Candidates()).costs
    budget = policy_ebops(dict.fromkeys(costs, uniform), costs)
    policies = {"uniform": dict.fromkeys(costs, uniform)}
    for settings in searches:
        found = searched(there, first, seed, settings, uniform, source)
        shares = {name: tuple(np.array(share) for share in both) for name, both in found["shares"].items()}
        widths = {name: (Candidates().kernel, Candidates().input) for name in shares}
        policies[f"eta={label(settings)}"] = likeliest_within(shares, widths, costs, budget)
        print(
            f"  search on {there}, eta {label(settings)}: Spearman {found['spearman']:.3f}, ARD {found['ard']:.3f}, "
            f"expected EBOPs {found['history'][-1]['expected_ebops']:,.0f}, {found['cpu_s']:.0f} s of CPU"
        )
    for what, policy in policies.items():
        name = f"{here}-{seed}-{what}-{uniform.w}{uniform.a}"
        got = deployed(name, policy, target, second, round(1.02 * budget), seed)
        print(
            f"  {what:10} {shown(policy)}: {got['before']:.2%} before tuning, {got['accuracy']:.2%} after; EBOPs "
            f"{got['ebops']:,}; Spearman {got['spearman']:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="GMPQ: a policy searched on one set, deployed on another.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bits", type=int, nargs=2, default=(3, 3), help="uniform widths of weights and inputs")
    parser.add_argument("--halves", action="store_true", help="five classes of Fashion-MNIST, then the other five")
    parser.add_argument("--etas", type=float, nargs="+", default=[SEARCH.eta, 0.0], help="weights of the imitation")
    parser.add_argument("--adaptive", action="store_true", help="p follows the expected widths, and is not 3")
    options = parser.parse_args()
    power = None if options.adaptive else SEARCH.p
    searches = [replace(SEARCH, eta=eta, p=power if eta else SEARCH.p) for eta in options.etas]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        run(seed, Bits(*options.bits), options.halves, searches)


if __name__ == "__main__":
    main()
