"""What the hooks catch, against what the model's own attention computes."""

import math

import pytest
import torch
import transformers as tf
from tiny_models import make_bert

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES, architecture_of, depth_of, layer_at, layers_of
from distill.capture import Seen, Wanted, observe, rotate
from distill.objectives.relations import relation_scores

# DeBERTa's and ModernBERT's own modules script and compile functions as they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")

HEADS, DEPTH, LOCAL = 4, 4, 2
SHAPE = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS,
    "intermediate_size": 64, "initializer_range": 0.3,
}  # fmt: skip
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8}


def albert(**more):
    return tf.AlbertForSequenceClassification(tf.AlbertConfig(**SHAPE, embedding_size=16, **more))


def deberta(**more):
    return tf.DebertaV2ForSequenceClassification(tf.DebertaV2Config(**SHAPE, **more))


def modernbert():
    """Layers 1 and 3 look everywhere, 2 and 4 only `LOCAL` tokens to each side."""
    config = tf.ModernBertConfig(
        **SHAPE, global_attn_every_n_layers=2, local_attention=2 * LOCAL, pad_token_id=0, reference_compile=False,
        initializer_cutoff_factor=2.0,
    )  # fmt: skip
    return tf.ModernBertForSequenceClassification(config)


TINY = {
    "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(**SHAPE)),
    "roberta": lambda: tf.RobertaForSequenceClassification(tf.RobertaConfig(**SHAPE, pad_token_id=0)),
    "xlm-roberta": lambda: tf.XLMRobertaForSequenceClassification(tf.XLMRobertaConfig(**SHAPE, pad_token_id=0)),
    "camembert": lambda: tf.CamembertForSequenceClassification(tf.CamembertConfig(**SHAPE, pad_token_id=0)),
    "electra": lambda: tf.ElectraForSequenceClassification(tf.ElectraConfig(**SHAPE, embedding_size=32)),
    "electra, narrow embeddings": lambda: tf.ElectraForSequenceClassification(
        tf.ElectraConfig(**SHAPE, embedding_size=16)
    ),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(
        tf.DistilBertConfig(
            vocab_size=50, dim=32, n_layers=DEPTH, n_heads=HEADS, hidden_dim=64, initializer_range=0.3
        )
    ),
    "mpnet": lambda: tf.MPNetForSequenceClassification(tf.MPNetConfig(**SHAPE)),
    "deberta-v2": deberta,
    "deberta-v2, disentangled": lambda: deberta(**DISENTANGLED),
    "deberta-v2, one term in buckets": lambda: deberta(
        **(DISENTANGLED | {"pos_att_type": ["p2c"], "position_buckets": 4})
    ),
    "deberta-v2, shared projections": lambda: deberta(**DISENTANGLED, share_att_key=True),
    "deberta-v2, convolution": lambda: deberta(**DISENTANGLED, conv_kernel_size=3, conv_act="gelu"),
    "albert": albert,
    "albert, two groups": lambda: albert(num_hidden_groups=2),
    "modernbert": modernbert,
}  # fmt: skip


def make(name: str, attention: str = "eager"):
    torch.manual_seed(0)
    model = TINY[name]().eval()
    model.set_attn_implementation(attention)
    return model


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def every(model) -> Wanted:
    depth = depth_of(model)
    return Wanted(layers=tuple(range(1, depth + 1)), hidden=tuple(range(depth + 1)), logits=True)


def scores_of(model, layer, seen):
    """The captured products, and what this architecture adds to them before its softmax."""
    scores = relation_scores(seen.Q, seen.K, HEADS)
    seq = scores.shape[-1]
    if model.config.model_type == "mpnet":
        return scores + model.mpnet.encoder.compute_position_bias(torch.zeros(2, seq, 32))
    if model.config.model_type == "modernbert" and (layer - 1) % model.config.global_attn_every_n_layers:
        places = torch.arange(seq)
        return scores.masked_fill((places[:, None] - places[None, :]).abs() > LOCAL, torch.finfo(torch.float32).min)
    if model.config.model_type == "deberta-v2" and model.config.relative_attention:
        attention, encoder = layers_of(model)[layer - 1].attention.self, model.deberta.encoder
        factor = 1 + len(attention.pos_att_type)
        query, key = (attention.transpose_for_scores(x, HEADS) for x in (seen.Q, seen.K))
        places = encoder.get_rel_pos(torch.zeros(2, seq, 32))
        added = attention.disentangled_attention_bias(query, key, places, encoder.get_rel_embedding(), factor)
        return scores / math.sqrt(factor) + added.view_as(scores)
    return scores


def test_every_architecture_has_a_tiny_model():
    """Oracle: the table itself; a new row without a test fails here."""
    assert {name.split(",")[0] for name in TINY} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", TINY)
def test_caught_queries_and_keys_are_the_models_own(name):
    """Oracle: the attention probabilities that the model returns itself, at every layer and real token."""
    model, batch = make(name), inputs()
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        probabilities = model(**batch, output_attentions=True).attentions
        seen = observe(model, batch, every(model)).projections
    assert len(probabilities) == len(seen) == DEPTH
    bias = torch.where(real, 0.0, torch.finfo(torch.float32).min / 2)[:, None, None, :]
    for layer, theirs in enumerate(probabilities, start=1):
        assert seen[layer].heads == HEADS
        ours = (scores_of(model, layer, seen[layer]) + bias).softmax(-1)
        torch.testing.assert_close(ours.transpose(1, 2)[real], theirs.transpose(1, 2)[real], atol=5e-6, rtol=0)


@pytest.mark.parametrize("name", ["mpnet", "deberta-v2, disentangled", "modernbert"])
def test_what_is_added_after_the_products_is_not_in_them(name):
    """Oracle: the model's probabilities, which the bare products miss by far; so the test above can fail."""
    model, batch = make(name), inputs()
    with torch.no_grad():
        theirs = model(**batch, output_attentions=True).attentions[1]
        seen = observe(model, batch, Wanted(layers=(2,))).projections[2]
    ours = relation_scores(seen.Q, seen.K, HEADS).softmax(-1)
    assert (ours[0] - theirs[0]).abs().max() > 0.05


@pytest.mark.parametrize("name", TINY)
def test_caught_values_make_the_models_context(name):
    """Oracle: the tensor that the output projection reads, from the model's own probabilities and our values."""
    model, batch = make(name), inputs()
    module, _ = layer_at(model, DEPTH)
    output = next(m for path, m in module.named_modules() if path.endswith(("output.dense", "out_lin", "attn.o", "Wo",
                                                                            "attention.dense")))  # fmt: skip
    read: list[torch.Tensor] = []
    handle = output.register_forward_pre_hook(lambda _module, args: read.append(args[0]))
    with torch.no_grad():
        probabilities = model(**batch, output_attentions=True).attentions[-1]
        handle.remove()
        value = observe(model, batch, Wanted(layers=(DEPTH,))).projections[DEPTH].V
    context = probabilities @ value.unflatten(2, (HEADS, -1)).transpose(1, 2)
    torch.testing.assert_close(context.transpose(1, 2).flatten(2), read[-1], atol=1e-5, rtol=0)


def test_modernbert_is_caught_turned():
    """Oracle: a rotation. The first token stays, each other turns, and no length changes; Hugging Face agrees."""
    from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

    model, batch = make("modernbert"), inputs()
    module, _ = layer_at(model, 2)
    caught: dict[str, torch.Tensor] = {}
    module.attn.Wqkv.register_forward_hook(lambda _m, _i, output: caught.update(flat=output))
    module.attn.rotary_emb.register_forward_hook(lambda _m, _i, output: caught.update(cos=output[0], sin=output[1]))
    with torch.no_grad():
        seen = observe(model, batch, Wanted(layers=(2,))).projections[2]
    query, key, value = caught["flat"].chunk(3, -1)
    torch.testing.assert_close(seen.Q[:, 0], query[:, 0])
    assert (seen.Q[:, 1:] - query[:, 1:]).norm(dim=-1).min() > 0.1
    torch.testing.assert_close(seen.K.norm(dim=-1), key.norm(dim=-1))
    assert torch.equal(seen.V, value)
    split = [x.unflatten(2, (HEADS, -1)).transpose(1, 2) for x in (query, key)]
    theirs = apply_rotary_pos_emb(*split, caught["cos"], caught["sin"])
    for plain, turned in zip((query, key), theirs, strict=True):
        ours = rotate(plain, caught["cos"], caught["sin"], HEADS)
        torch.testing.assert_close(ours, turned.transpose(1, 2).flatten(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TINY)
def test_hidden_states_are_the_models_own(name):
    """Oracle: `output_hidden_states`; the last is what the model gives, which in ModernBERT its last norm makes."""
    model, batch = make(name), inputs()
    with torch.no_grad():
        theirs = model(**batch, output_hidden_states=True).hidden_states
        last = model.base_model(**batch).last_hidden_state
        seen = observe(model, batch, every(model)).hidden
    assert sorted(seen) == list(range(DEPTH + 1))
    for layer in range(DEPTH):
        assert seen[layer].shape[-1] == 32
        torch.testing.assert_close(seen[layer], theirs[layer], atol=0, rtol=0)
    torch.testing.assert_close(seen[DEPTH], last, atol=0, rtol=0)
    if architecture_of(model).final_norm:
        assert (seen[DEPTH] - theirs[DEPTH]).abs().max() > 0.1
    else:
        torch.testing.assert_close(seen[DEPTH], theirs[DEPTH], atol=0, rtol=0)


@pytest.mark.parametrize("name", ["bert", "mpnet", "distilbert", "albert", "modernbert"])
def test_the_kind_of_attention_does_not_matter(name):
    """Oracle: the same model with eager attention; the fused kernels hide the scores, not the projections."""
    batch = inputs()
    attention = "eager" if name == "mpnet" else "sdpa"  # MPNet has no other
    with torch.no_grad():
        eager, fused = (observe(m, batch, every(m)) for m in (make(name), make(name, attention)))
    real = batch["attention_mask"].bool()
    for layer in eager.projections:
        for vectors in "QKV":
            ours, theirs = (getattr(seen.projections[layer], vectors)[real] for seen in (eager, fused))
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def events_of(model, run) -> list[str]:
    """The innermost modules called, and `layer` after each layer that was gone through."""
    events: list[str] = []
    layers = list(layers_of(model))
    handles = []
    for name, module in model.named_modules():
        label = "layer" if any(module is layer for layer in layers) else name
        if label == "layer" or not list(module.children()):
            handles.append(module.register_forward_hook(lambda *_, label=label: events.append(label)))
    run()
    for handle in handles:
        handle.remove()
    return events


@pytest.mark.parametrize("name", TINY)
def test_nothing_above_the_highest_capture_is_computed(name):
    """Oracle: the calls of the model's modules; a capture makes the first of them, in order, and then no more."""
    model, batch = make(name), inputs()
    whole = events_of(model, lambda: model(**batch))
    row = architecture_of(model)
    ends = [row.rotary] if row.fused else [row.query, row.key, row.value]
    for wanted, layers_done, last in [
        (Wanted(layers=(3,)), 2, ends),
        (Wanted(layers=(1, 3), hidden=(0, 2)), 2, ends),
        (Wanted(hidden=(0,)), 0, None),
        (Wanted(hidden=(1, 3)), 3, None),
        (Wanted(layers=(2,), hidden=(3,)), 3, None),
        (Wanted(hidden=(DEPTH,)), DEPTH, [row.final_norm or "layer"]),
    ]:
        seen: list[Seen] = []
        events = events_of(model, lambda wanted=wanted, seen=seen: seen.append(observe(model, batch, wanted)))
        assert events == whole[: len(events)]
        assert len(events) < len(whole)
        assert events.count("layer") == layers_done
        assert last is None or any(events[-1].endswith(end) for end in last)
        assert seen[0].logits is None
        following = whole[len(events) :]
        assert last is not None or following.index("layer") > 0  # stopped before the next layer, not inside it
    assert observe(model, batch, Wanted()) == Seen()
    assert events_of(model, lambda: observe(model, batch, Wanted())) == []


def test_a_hidden_state_stops_before_the_next_layer():
    """Oracle: hooks on layer 3's own parts, of which none is called for hidden state 2."""
    for name in ("bert", "modernbert", "distilbert"):
        model, called = make(name), []
        for module in layer_at(model, 3)[0].modules():
            module.register_forward_hook(lambda *_, called=called: called.append(1))
        observe(model, inputs(), Wanted(layers=(2,), hidden=(2,)))
        assert called == []


def test_logits_beside_relations_come_from_the_same_pass():
    """Oracle: the model called plainly."""
    model, batch = make_bert(), {"input_ids": torch.randint(5, 20, (2, 7))}
    seen = observe(model, batch, Wanted(layers=(1,), logits=True))
    torch.testing.assert_close(seen.logits, model(**batch).logits)
    assert seen.projections[1].heads == 4


def hooks_on(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", TINY)
def test_a_teacher_keeps_no_gradient_and_no_hook(name):
    """Oracle: autograd's own flags, and the hooks counted, also after passes that failed half-way."""
    model, batch = make(name), inputs()
    with torch.no_grad():
        seen = observe(model, batch, every(model))
    caught = [getattr(p, vectors) for p in seen.projections.values() for vectors in "QKV"] + list(seen.hidden.values())
    assert not any(x.requires_grad for x in caught)
    assert hooks_on(model) == 0
    observe(model, batch, Wanted(layers=(2,), hidden=(1,)))
    assert hooks_on(model) == 0
    with pytest.raises(IndexError):  # no such token
        observe(model, {"input_ids": torch.full((1, 3), 99)}, every(model))
    with pytest.raises(ModelError):
        observe(model, batch, Wanted(layers=(1, 9)))
    with pytest.raises(ModelError):
        observe(model, batch, Wanted(layers=(1,), hidden=(0, 9)))
    assert hooks_on(model) == 0


def test_a_student_learns_through_what_was_caught():
    """Oracle: autograd; what lies below the capture has a gradient, what lies above has none."""
    model = make("bert")
    seen = observe(model, inputs(), Wanted(layers=(2,)))
    seen.projections[2].V.square().sum().backward()
    layers = layers_of(model)
    assert layers[0].output.dense.weight.grad is not None
    assert layers[1].attention.self.value.weight.grad is not None
    assert layers[1].attention.self.query.weight.grad is None
    assert layers[2].attention.self.value.weight.grad is None


@pytest.mark.parametrize("name", ["bert", "modernbert", "albert"])
def test_a_layer_that_is_not_there_is_named(name):
    """Oracle: the message a user reads."""
    model = make(name)
    for wanted in (Wanted(layers=(7,)), Wanted(hidden=(7,)), Wanted(layers=(7,), logits=True)):
        with pytest.raises(ModelError, match="layer 7 was asked of a model with layers 1 to 4"):
            observe(model, inputs(), wanted)


def test_an_unknown_architecture_is_told_what_it_has():
    """Oracle: the message a user reads, which names the projections to choose from."""
    torch.manual_seed(0)
    model = tf.RoFormerModel(tf.RoFormerConfig(**SHAPE))
    with pytest.raises(ModelError, match="unknown architecture 'roformer', expected one of albert, bert") as found:
        observe(model, inputs(), Wanted(layers=(1,)))
    for path in ("query", "key", "value"):
        assert f"encoder.layer.0.attention.self.{path}" in str(found.value) + repr(vars(found.value))


def test_layers_within_a_layer_are_refused():
    """Oracle: the message a user reads."""
    model = albert(inner_group_num=2)
    with pytest.raises(ModelError, match="each layer of this albert is 2 layers in one, expected 1"):
        observe(model, inputs(), Wanted(layers=(1,)))
