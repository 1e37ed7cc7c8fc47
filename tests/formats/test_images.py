"""Pictures as records, and decoded."""

import hashlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from embcli.errors import InputError, ModelError
from embcli.formats import Problem, ReadOptions
from embcli.formats.images import load_image
from embcli.formats.inputs import Source, expand
from embcli.formats.reader import Reader
from embcli.store import Record

RED, BLUE = (254, 0, 0), (0, 0, 254)


def halves(width=12, height=8, mode="RGB"):
    """A picture that is red on its left and blue on its right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image.convert(mode)


def saved(image, format, **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def read(*paths):
    return list(Reader([Source(path.name, path) for path in paths]))


def colours(image):
    """The corners: top left, top right, bottom left."""
    width, height = image.size
    places = [(0, 0), (width - 1, 0), (0, height - 1)]
    return [image.getpixel(place) for place in places]


def assert_like(image, expected, tolerance=12):
    assert image.mode == "RGB"
    assert np.abs(np.subtract(colours(image), expected)).max() <= tolerance


@pytest.fixture
def photos(home):
    """A folder of pictures of several kinds."""
    folder = home / "photos"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(saved(halves(), "JPEG", quality=95))
    (folder / "a.PNG").write_bytes(saved(halves(mode="RGBA"), "PNG"))
    (folder / "c.webp").write_bytes(saved(halves(), "WEBP", lossless=True))
    (folder / "d.jpeg").write_bytes((folder / "b.jpg").read_bytes())
    (folder / "notes.txt").write_text("a text\n")
    return folder


# Which files are pictures


def test_pictures_are_passed_over_unless_asked_for(photos):
    found = expand(["photos"])
    assert [source.name for source in found.sources] == ["photos/notes.txt"]
    assert (found.pictures, found.ignored) == (4, 0)
    assert found.vanished_from(["photos/b.jpg", "photos/gone.jpg"]) == ["photos/gone.jpg"]
    found = expand(["photos"], images=True)
    names = ["a.PNG", "b.jpg", "c.webp", "d.jpeg", "notes.txt"]
    assert [source.name for source in found.sources] == [f"photos/{name}" for name in names]
    assert (found.pictures, found.ignored) == (0, 0)
    assert found.vanished_from(["photos/b.jpg"]) == ["photos/b.jpg"]


def test_pictures_that_match_a_pattern(photos):
    found = expand(["photos/*"])
    assert [source.name for source in found.sources] == ["photos/notes.txt"]
    assert found.pictures == 4
    assert len(expand(["photos/*.jp*"], images=True).sources) == 2


@pytest.mark.parametrize("may_be_empty", [False, True])
def test_a_picture_that_is_named_is_an_error_if_not_asked_for(photos, may_be_empty):
    with pytest.raises(InputError, match=r"^photos/b.jpg: this model takes no images$") as caught:
        expand(["photos/notes.txt", "photos/b.jpg"], may_be_empty=may_be_empty)
    assert "--model" in caught.value.hint


@pytest.mark.parametrize("argument", ["photos", "photos/*"])
def test_nothing_but_pictures(photos, argument):
    (photos / "notes.txt").unlink()
    with pytest.raises(InputError, match="takes no images, and 4 pictures is all there is"):
        expand([argument])
    found = expand([argument], may_be_empty=True)
    assert (found.sources, found.pictures) == ([], 4)


def test_a_folder_without_any_file_to_read_says_which_could_be(home):
    (home / "photo.gif").write_bytes(b"")
    with pytest.raises(InputError, match=r"\.markdown \(or those .* \.zst\)$"):
        expand(["."])
    with pytest.raises(InputError, match=r"\.zst\) or \.jpg \.jpeg \.png \.webp$"):
        expand(["."], images=True)


def test_a_compressed_picture_is_none(home):
    (home / "a.jpg.gz").write_bytes(b"")
    assert expand(["."], may_be_empty=True, images=True).ignored == 1


# Records


def test_a_record_per_picture(photos):
    found = expand(["photos"], images=True)
    reader = Reader(found.sources)
    png, jpeg, webp, twin, text = reader
    path = photos / "b.jpg"
    size = path.stat().st_size
    meta = {"path": "photos/b.jpg", "width": 12, "height": 8, "bytes": size, "format": "JPEG"}
    assert jpeg == Record("photos/b.jpg", "photos/b.jpg", meta, "photos/b.jpg:1")
    assert jpeg.image.samefile(path)
    assert (png.meta["format"], webp.meta["format"]) == ("PNG", "WEBP")
    assert (text.text, text.image) == ("a text", None)
    assert reader.bytes_read == sum(source.size for source in found.sources)
    assert jpeg.hash == twin.hash
    assert len({png.hash, jpeg.hash, webp.hash, text.hash}) == 4


def test_the_hash_is_that_of_the_file(photos):
    content = (photos / "b.jpg").read_bytes()
    (record,) = read(photos / "b.jpg")
    assert record.hash == hashlib.blake2b(b"image:" + content, digest_size=16).hexdigest()
    (photos / "b.jpg").write_bytes(saved(halves(20), "JPEG"))
    assert record.hash != read(photos / "b.jpg")[0].hash


def test_options_for_texts_do_not_matter(photos):
    source = Source("b.jpg", photos / "b.jpg")
    options = ReadOptions(format="csv", encoding="latin-1", text_fields=("x",), per="file")
    assert list(Reader([source], options)) == list(Reader([source]))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_turned_as_exif_says(home, format, orientation):
    path = home / "a.jpg"
    path.write_bytes(saved(halves(), format, exif=with_orientation(orientation)))
    image = load_image(path)
    with Image.open(path) as original:
        expected = ImageOps.exif_transpose(original).convert("RGB")
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    (record,) = read(path)
    assert (record.meta["width"], record.meta["height"]) == image.size
    assert ImageOps.exif_transpose(image) == image  # for those who do it again


def test_damaged_exif_data_costs_nothing(home):
    path = home / "a.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30
    path.write_bytes(saved(halves(), "JPEG", exif=exif))
    assert load_image(path).size == (12, 8)
    assert read(path)[0].meta["width"] == 12


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"this is text\n", "this is no picture that can be read (JPEG, PNG, "),
        ("head.png", b"\x89PNG\r\n\x1a\n", "this is no picture"),
        ("script.webp", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
    ],
)
def test_what_is_no_picture(home, name, content, reason):
    (home / name).write_bytes(content)
    (problem,) = read(home / name)
    assert problem.kind == "malformed"
    assert str(problem).startswith(f"{name}: ")
    assert reason in str(problem)
    with pytest.raises(InputError, match=name) as caught:
        load_image(home / name)
    assert reason in caught.value.message


def test_a_picture_that_is_not_there(home):
    (problem,) = read(home / "gone.jpg")
    assert str(problem) == "gone.jpg: cannot be opened (No such file or directory)"
    with pytest.raises(InputError, match=r"gone.jpg: cannot be opened \(No such"):
        load_image(str(home / "gone.jpg"))


def test_one_bad_picture_does_not_hide_the_next(photos):
    (photos / "b.jpg").write_bytes(b"?")
    results = read(*sorted(photos.glob("*.*p*g")))
    assert [isinstance(result, Problem) for result in results] == [True, False]


def test_pillow_is_not_installed(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for fails in (lambda: read(photos / "b.jpg"), lambda: load_image(photos / "b.jpg")):
        with pytest.raises(ModelError, match="takes Pillow") as caught:
            fails()
        assert caught.value.hint == "pip install 'embcli[images]'"


# Decoding


MODES = [
    ("PNG", ["RGB", "RGBA", "P", "L", "LA", "1"]),
    ("JPEG", ["RGB", "CMYK", "YCbCr", "L"]),
    ("WEBP", ["RGB", "RGBA", "L"]),
    ("GIF", ["RGB", "RGBA", "P", "L", "1"]),
    ("BMP", ["RGB", "RGBA", "P", "L", "1"]),
]


@pytest.mark.parametrize(("format", "mode"), [(f, mode) for f, modes in MODES for mode in modes])
def test_every_mode_becomes_rgb(home, format, mode):
    image = halves(mode=mode)
    (home / "a.png").write_bytes(saved(image, format, quality=100))
    expected = [RED, BLUE, RED]
    if mode in ("L", "LA", "1"):
        expected = colours(image.convert("L").convert("RGB"))
    assert_like(load_image(home / "a.png"), expected)


def test_what_is_transparent_is_white(home):
    image = halves(mode="RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((11, 0), (0, 0, 0, 127))
    for format in ("PNG", "WEBP"):
        (home / "a.png").write_bytes(saved(image, format, lossless=True, exact=True))
        assert_like(load_image(home / "a.png"), [(255, 255, 255), (128, 128, 128), RED], 1)


@pytest.mark.parametrize("transparency", [0, b"\x00\x80\xff"])
def test_transparent_colours_of_a_palette(home, transparency):
    image = Image.new("P", (12, 8), 2)
    image.putpalette([*RED, *BLUE, 0, 254, 0])
    image.putpixel((0, 0), 0)
    image.putpixel((11, 0), 1)
    (home / "a.png").write_bytes(saved(image, "PNG", transparency=transparency))
    second = BLUE if transparency == 0 else (127, 127, 254)
    assert_like(load_image(home / "a.png"), [(255, 255, 255), second, (0, 254, 0)], 1)


def test_sixteen_bits_are_scaled(home):
    values = np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)
    Image.fromarray(values).save(home / "a.png")
    image = load_image(home / "a.png")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[:, :, 1] - values / 257).max() < 1


def test_the_first_of_several_frames(home):
    halves().save(home / "a.webp", save_all=True, append_images=[halves(mode="L")], lossless=True)
    assert_like(load_image(home / "a.webp"), [RED, BLUE, RED])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_picture(home, format):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), format)
    (home / "a.jpg").write_bytes(content[: len(content) // 2])
    if format != "WEBP":  # whose beginning names the size of the file
        assert read(home / "a.jpg")[0].meta["width"] == 64
    with pytest.raises(InputError, match=r"a\.jpg: (the picture is damaged \(|this is no pict)"):
        load_image(home / "a.jpg")


def test_any_damage_is_an_input_error(home):
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    failed = 0
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        whole = np.frombuffer(saved(noise, format, exif=with_orientation(6)), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, len(damaged), 8)] = random.integers(0, 256, 8)
            (home / "a.jpg").write_bytes(damaged.tobytes())
            read(home / "a.jpg")
            try:
                load_image(home / "a.jpg")
            except InputError:
                failed += 1
    assert failed > 20


def test_pictures_of_too_many_pixels(home, monkeypatch):
    (home / "a.png").write_bytes(saved(halves(), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 95)  # beyond this Pillow warns
    assert load_image(home / "a.png").size == (12, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 47)  # and beyond its double it refuses
    (problem,) = read(home / "a.png")
    assert str(problem).startswith("a.png: the picture is too large (Image size (96 pixels)")
    with pytest.raises(InputError, match=r"a\.png: the picture is too large"):
        load_image(home / "a.png")


def test_threads_leave_the_filters_of_warnings_as_they_were(home, monkeypatch):
    (home / "a.png").write_bytes(saved(halves(), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 95)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(load_image, [home / "a.png"] * 200))
    assert len(images) == 200
    assert warnings.filters == before


# Real pictures


def test_real_pictures(shared):
    folder = shared / "cifar10_1k"
    found = expand([str(folder / "img")], folder, images=True)
    records = list(Reader(found.sources))
    assert len(records) == 1000
    assert [r.id for r in records] == sorted(r.id for r in records)
    assert records[0].id == "img/airplane_0000.jpg"
    assert {(r.meta["width"], r.meta["height"], r.meta["format"]) for r in records} == {
        (32, 32, "JPEG")
    }
    image = load_image(records[0].image)
    with Image.open(records[0].image) as original:
        assert np.array_equal(np.asarray(image), np.asarray(original))
