"""Tar shards with a few images, for tests."""

import io
import tarfile

import mock_data_sets as mock

COUNT = 6


def write_shards(folder, files_of, *, names=("00000.tar", "00001.tar")):
    """Writes shards whose samples are `files_of(number)`, a dict name -> bytes; COUNT samples over all shards."""
    folder.mkdir(parents=True, exist_ok=True)
    each = COUNT // len(names)
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / name, "w") as archive:
            for number in range(place * each, (place + 1) * each):
                for file, content in files_of(number).items():
                    entry = tarfile.TarInfo(file)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return folder


def plain(number):
    return {f"{number:05d}.png": mock.encoded(number), f"{number:05d}.txt": b"picture %d" % number}
