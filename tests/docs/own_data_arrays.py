"""Inputs of the rows about arrays, deep images and long captions."""

import csv
import json

import numpy as np
from own_data_inputs import N, captions, photos, writes
from PIL import Image

K = 3


def latents(rows, width, seed):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


IMAGE, TEXT = latents(N, 6, 0), latents(N, 4, 1)


@writes("embeddings:latents.npz")
def npz(folder):
    np.savez(folder / "latents.npz", image_embeds=IMAGE, text_embeds=TEXT, caption=np.array(captions()))
    return N, N


@writes("embeddings:latents.npz,image=x,text=y")
def named(folder):
    np.savez(folder / "latents.npz", x=IMAGE, y=TEXT)
    return N, N


@writes("embeddings:image=A.npy,text=B.npy")
def two_files(folder):
    np.save(folder / "A.npy", IMAGE)
    np.save(folder / "B.npy", TEXT)
    return N, N


@writes("embeddings:image=A.npy,text=B.npy,text_to_image=owner.npy,split=split.txt")
def two_files_with_owners(folder):
    np.save(folder / "A.npy", IMAGE)
    np.save(folder / "B.npy", latents(N * K, 4, 2))
    np.save(folder / "owner.npy", np.repeat(np.arange(N), K))
    (folder / "split.txt").write_text("train\n" * (N - 2) + "val\ntest\n")
    return N, N * K


@writes("embeddings:five.npz")
def several_texts(folder):
    np.savez(folder / "five.npz", image=IMAGE, text=latents(N * 5, 4, 3).reshape(N, 5, 4))
    return N, N * 5


@writes("embeddings:clip_output")
def clip_retrieval(folder):
    import pyarrow
    from pyarrow import parquet

    for name in ("img_emb", "text_emb", "metadata"):
        (folder / "clip_output" / name).mkdir(parents=True)
    for part, rows in enumerate(np.array_split(np.arange(N), 2)):
        np.save(folder / f"clip_output/img_emb/img_emb_{part}.npy", IMAGE[rows].astype(np.float16))
        np.save(folder / f"clip_output/text_emb/text_emb_{part}.npy", TEXT[rows].astype(np.float16))
        table = pyarrow.table({"image_path": [f"{i}.jpg" for i in rows], "caption": [captions()[i] for i in rows]})
        parquet.write_table(table, folder / f"clip_output/metadata/metadata_{part}.parquet")
    return N, N


@writes("embeddings:latents.parquet")
def parquet_lists(folder):
    import pyarrow
    from pyarrow import parquet

    table = {"image_embedding": IMAGE.tolist(), "text_embedding": TEXT.tolist(), "caption": captions()}
    parquet.write_table(pyarrow.table(table), folder / "latents.parquet")
    return N, N


@writes("embeddings:latents.safetensors")
def safetensors(folder):
    header, body = {}, b""
    for name, array in (("image", IMAGE), ("text", TEXT)):
        place = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": place}
        body += array.tobytes()
    text = json.dumps(header).encode()
    (folder / "latents.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    return N, N


@writes("pairs:xrays.csv")
def twelve_bits(folder):
    names = photos(folder, "xrays")
    for name in names:
        with Image.open(folder / name) as image:
            grey = np.asarray(image.convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(folder / name)
    with open(folder / "xrays.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "caption"], *zip(names, captions(), strict=True)])
    return N, N


@writes("pairs:reports.csv")
def long_captions(folder):
    begin = "a long report that begins like all the others " * 12
    with open(folder / "reports.csv", "w", newline="", encoding="utf-8") as file:
        rows = zip(photos(folder), (begin + caption for caption in captions()), strict=True)
        csv.writer(file).writerows([["image", "caption"], *rows])
    return N, N
