"Folders of images: which files are read, in what order, to what pixels, and what is refused."

import io
import os
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

import mnist_cmp as mc
from mnist_cmp.datasets.folders import read_folder
from mnist_cmp.datasets.sources import torchvision_datasets

posix = pytest.mark.skipif(os.name != 'posix', reason='pipes and links')


def save(folder, name, picture, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def noise(seed, height=8, width=8, channels=3):
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / 'pets'
    for number, name in enumerate(('dog/10.png', 'dog/9.png', 'cat/b/1.png', 'cat/a.png')):
        save(folder, name, noise(number))
    return folder


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


def test_the_same_files_in_the_same_order_as_torchvision(pets, quiet):
    torchvision_datasets()
    from torchvision.datasets import ImageFolder

    arrays = read_folder(pets)
    theirs = ImageFolder(pets)
    assert list(arrays.classes) == theirs.classes
    assert arrays.y.tolist() == theirs.targets
    for ours, (picture, _) in zip(arrays.x, theirs, strict=True):
        assert np.array_equal(ours, np.asarray(picture).transpose(2, 0, 1))


@pytest.mark.parametrize('size', [4, 8, 13])
def test_the_same_pixels_as_torchvision(tmp_path, quiet, size):
    torchvision_datasets()
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, Resize

    for number, sides in enumerate([(20, 31), (31, 20), (8, 8), (9, 8), (50, 7)]):
        save(tmp_path, f'a/{number}.png', noise(number, *sides))
    theirs = ImageFolder(tmp_path, Compose([Resize(size), CenterCrop(size)]))
    ours = read_folder(tmp_path, size)
    for pixels, (picture, _) in zip(ours.x, theirs, strict=True):
        assert np.array_equal(pixels, np.asarray(picture).transpose(2, 0, 1))


def test_parts(pets, tmp_path, quiet):
    for part in ('train', 'validation', 'test'):
        shutil.copytree(pets, tmp_path / 'all' / part)
    arrays = read_folder(tmp_path / 'all')
    whole = read_folder(pets)
    for x in (arrays.x, arrays.x_valid, arrays.x_test):
        assert np.array_equal(x, whole.x)
    assert arrays.name == 'all'
    shutil.rmtree(tmp_path / 'all' / 'validation')
    assert read_folder(tmp_path / 'all').x_valid is None


def test_a_class_may_be_called_train(tmp_path, quiet):
    save(tmp_path, 'train/1.png', noise(0))
    save(tmp_path, 'test/1.png', noise(1))
    assert read_folder(tmp_path).classes == ('test', 'train')


@pytest.mark.parametrize(
    'kinds, channels',
    [
        (['L', 'L'], 1),
        (['L', '1'], 1),
        (['L', 'LA'], 1),
        (['L', 'RGB'], 3),
        (['RGBA', 'L'], 3),
        (['P', 'RGB'], 3),
    ],
)
def test_channels(tmp_path, quiet, kinds, channels):
    for number, kind in enumerate(kinds):
        save(tmp_path, f'a/{number}.png', noise(number).convert(kind))
    x = read_folder(tmp_path).x
    assert x.shape == (2, channels, 8, 8)
    if channels == 3 and 'L' in kinds:
        grey = x[kinds.index('L')]
        assert (grey == grey[:1]).all()


@pytest.mark.parametrize('suffix', ['png', 'PNG', 'bmp', 'webp', 'gif'])
def test_formats_without_loss(tmp_path, quiet, suffix):
    picture = noise(0, channels=1) if suffix == 'gif' else noise(0)
    options = {'lossless': True} if suffix == 'webp' else {}
    save(tmp_path, f'a/1.{suffix}', picture, **options)
    pixels = np.asarray(picture)
    expected = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    assert np.array_equal(read_folder(tmp_path).x[0], expected)


def test_jpeg(tmp_path, quiet):
    save(tmp_path, 'a/1.jpeg', Image.new('RGB', (16, 16), (200, 100, 50)))
    assert np.abs(read_folder(tmp_path).x[0].mean((1, 2)) - [200, 100, 50]).max() < 3


@pytest.mark.parametrize('orientation, quarter_turns', [(3, 2), (6, -1), (8, 1)])
def test_upright(tmp_path, quiet, orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, 'a/1.png', noise(0, 5, 9, 1), exif=exif)
    expected = np.rot90(np.asarray(noise(0, 5, 9, 1)), quarter_turns)
    assert np.array_equal(read_folder(tmp_path).x[0, 0], expected)


def test_what_is_transparent_is_white(tmp_path, quiet):
    picture = Image.new('RGBA', (4, 4), (10, 20, 30, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 0, 127))
    save(tmp_path, 'a/1.png', picture)
    x = read_folder(tmp_path).x[0]
    assert x[:, 0, 0].tolist() == [255] * 3
    assert x[:, 0, 1].tolist() == [128] * 3
    assert x[:, 3, 3].tolist() == [10, 20, 30]


def test_other_files_are_left_out_with_a_warning(pets):
    (pets / '.DS_Store').touch()
    (pets / 'cat' / '.hidden.png').touch()
    (pets / '.git').mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        n = len(read_folder(pets).x)
    (pets / 'labels.csv').touch()
    (pets / 'cat' / 'photo.tiff').touch()
    with pytest.warns(UserWarning, match=r'pets: 2 files were left out, such as labels.csv\. Im'):
        assert len(read_folder(pets).x) == n


def test_files_beside_the_parts_are_named(pets, tmp_path):
    for part in ('train', 'test'):
        shutil.copytree(pets, tmp_path / 'divided' / part)
    shutil.copy(pets / 'dog' / '9.png', tmp_path / 'divided')
    words = 'divided: 1 file was left out, such as 9.png, 1 of them an image outside of all'
    with pytest.warns(UserWarning, match=words):
        read_folder(tmp_path / 'divided')


@pytest.mark.parametrize('n', [2, 11])
def test_folders_may_be_called_by_numbers(tmp_path, quiet, n):
    for number in range(n):
        for copy in range(6):
            save(tmp_path, f'{number}/{copy}.png', Image.new('L', (4, 4), 20 * number + copy + 50))
    data = mc.Data.from_folder(tmp_path)
    names = sorted(map(str, range(n)))
    assert data.classes == tuple(names)
    seen = (data.train.x[:, 0, 0, 0] - 50) // 20
    assert [data.classes[label] for label in data.train.y] == [str(k) for k in seen.tolist()]
    assert mc.Data.from_folder(tmp_path, classes=names).classes == data.classes
    words = [f'number {name}' for name in names]
    renamed = mc.Data.from_folder(tmp_path, classes=words)
    assert (renamed.classes, renamed.train.y.tolist()) == (tuple(words), data.train.y.tolist())
    with pytest.raises(ValueError, match='come with these names in another order'):
        mc.Data.from_folder(tmp_path, classes=names[::-1])


def png_of(width, height):
    "A PNG that says it is so large, and holds next to nothing."
    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = b''
    for kind, data in ((b'IHDR', head), (b'IDAT', zlib.compress(b'\0')), (b'IEND', b'')):
        chunks += struct.pack('>I', len(data)) + kind + data
        chunks += struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunks


def broken():
    save_to = io.BytesIO()
    noise(0).save(save_to, 'PNG')
    return save_to.getvalue()[:60]


@pytest.mark.parametrize(
    'content',
    [b'', b'no image', broken(), png_of(30_000, 30_000), png_of(10_000, 10_000), png_of(8, 8)],
    ids=['empty', 'text', 'cut', 'bomb', 'large', 'hollow'],
)
def test_broken_files_are_named(pets, content):
    (pets / 'dog' / '9.png').write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_folder(pets, size=8)
    assert f'{pets / "dog" / "9.png"} can not be read as an image (' in str(caught.value)
    assert '0x' not in str(caught.value)


def test_a_file_that_lies_about_its_format_is_no_image(pets):
    content = io.BytesIO()
    noise(0).save(content, 'TIFF')
    (pets / 'dog' / '9.png').write_bytes(content.getvalue())
    with pytest.raises(ValueError, match=r'9.png can not be read as an image'):
        read_folder(pets)


@posix
def test_links_and_pipes_are_refused(pets, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    save(tmp_path, 'elsewhere/1.png', noise(0))
    (pets / 'fish').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='fish is a link, which may lead out of'):
        read_folder(pets)
    (pets / 'fish').unlink()
    (pets / 'cat' / '1.png').symlink_to(tmp_path / 'elsewhere' / '1.png')
    with pytest.raises(ValueError, match='1.png is a link'):
        read_folder(pets)
    (pets / 'cat' / '1.png').unlink()
    os.mkfifo(pets / 'cat' / '1.png')
    with pytest.raises(ValueError, match='1.png is no file'):
        read_folder(pets)
    (pets / 'cat' / '1.png').unlink()
    (tmp_path / 'link').symlink_to(pets)  # the user named it
    assert read_folder(tmp_path / 'link').name == 'pets'


def test_two_sizes_are_named(pets):
    save(pets, 'cat/c.png', noise(0, 8, 9))
    with pytest.raises(ValueError) as caught:
        read_folder(pets)
    for words in (str(pets / 'cat' / 'a.png'), 'is 8×8 pixels', str(pets / 'cat' / 'c.png'), '8×9'):
        assert words in str(caught.value)
    assert 'size=8 scales and crops all of them' in str(caught.value)
    assert read_folder(pets, size=8).x.shape == (5, 3, 8, 8)


def test_what_is_no_such_folder(tmp_path, pets):
    with pytest.raises(ValueError, match='does not exist'):
        read_folder(tmp_path / 'none')
    with pytest.raises(ValueError, match='is no folder'):
        read_folder(pets / 'dog' / '9.png')
    with pytest.raises(
        ValueError, match='holds 2 images, but no folder of a class. Put the images'
    ):
        read_folder(pets / 'dog')
    (pets / 'fish').mkdir()
    with pytest.raises(ValueError, match='fish holds no image'):
        read_folder(pets)
    for part in ('train', 'test'):
        shutil.copytree(pets / 'dog', tmp_path / 'all' / part / 'dog')
    (tmp_path / 'all' / 'test' / 'dog').rename(tmp_path / 'all' / 'test' / 'dogs')
    with pytest.raises(ValueError, match="has the class 'dogs', but the training part has none"):
        read_folder(tmp_path / 'all')


def test_no_more_than_the_memory_holds(pets, monkeypatch):
    from mnist_cmp.datasets import arrays

    monkeypatch.setattr(arrays, 'MOST_BYTES', 767)
    with pytest.raises(
        ValueError, match=r'pets would take 768 bytes \(4×3×8×8\), but must take at'
    ):
        read_folder(pets)
    assert read_folder(pets, size=7).x.nbytes == 588


def test_deeper_images_are_refused(tmp_path):
    save(tmp_path, 'a/1.png', Image.new('I;16', (8, 8)))
    with pytest.raises(
        ValueError, match='1.png has more than 8 bits to a value .* but must have 8'
    ):
        read_folder(tmp_path)
