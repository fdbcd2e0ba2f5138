"""Files of the host: read, written, looked at, reached without a path, found by a library."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt, kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final = (
    Behaviour(
        id="file.read",
        sentence="A file of the host cannot be read.",
        source="open(2)",
        cells=(attempt("open('/etc/passwd').read()"),),
    ),
    refused(
        "file.canary", "A file that anybody may read cannot be read.", "openat(2)",
        "open('{dir}/canary').read()", "os.open('{dir}/canary', os.O_RDONLY)",
        "os.open('{dir}/canary', os.O_PATH)", "io.FileIO('{dir}/canary')",
        "codecs.open('{dir}/canary')", "pathlib.Path('{dir}/canary').read_text()",
        first="import codecs, io, os, pathlib",
    ),
    Behaviour(
        id="file.write",
        sentence="A file cannot be made.",
        source="open(2)",
        cells=(attempt("open('/tmp/{mark}', 'w')"),),
    ),
    refused(
        "file.create", "No file can be made in a folder that anybody may write to.", "open(2)",
        "open('{dir}/made', 'w')", "open('/dev/shm/{mark}', 'w')", "open('/var/tmp/{mark}', 'x')",
        "os.mkdir('{dir}/folder')", "os.mkfifo('{dir}/pipe')", "os.symlink('/', '{dir}/link')",
        "open('{mark}', 'w')", first="import os",
    ),
    Behaviour(
        id="file.list",
        sentence="A folder cannot be listed.",
        source="getdents(2)",
        cells=(attempt("__import__('os').listdir('/')"),),
    ),
    Behaviour(
        id="file.stat",
        sentence="A file's metadata cannot be read.",
        source="stat(2)",
        cells=(attempt("__import__('os').stat('/etc/passwd')"),),
    ),
    Behaviour(
        id="file.memory",
        sentence="No file can be made in memory.",
        source="memfd_create(2)",
        cells=(attempt("__import__('os').memfd_create('x')"),),
    ),
    kernel(
        "file.memory_kinds", "Nor one that is secret, executable or of huge pages.",
        "memfd_secret(2), memfd_create(2)",
        "call(447, 0), call(319, b'x', 0x10), call(319, b'x', 4), call(319, b'x', 8)",
    ),
    kernel(
        "file.openat2", "A path cannot be opened by the call that passes its flags by pointer.",
        "openat2(2)",
        "call(437, at, path, struct.pack('QQQ', flags, 0, scope), 24)\n"
        "    for at in (-100, 0, 3) for path in (b'/etc/passwd', b'..', b'') "
        "for flags in (0, 0x200000) for scope in (0, 0x10)",
    ),
    kernel(
        "file.below_descriptors", "No descriptor is a folder from which a path could begin.",
        "openat(2)",
        "call(257, at, path, 0x10000) for at in range(64) for path in (b'.', b'..', b'etc')",
    ),
    kernel(
        "file.folder_descriptors", "No descriptor can be listed or entered.",
        "getdents64(2), fchdir(2)",
        "call(nr, fd, room, 4096) for fd in range(64) for nr in (78, 81, 217, 138)",
    ),
    kernel(
        "file.reopened", "What is open cannot be opened again in another mode.", "proc(5)",
        "call(257, -100, path % fd, flags) for fd in range(6) for flags in (0, 1, 2, 0x200000)\n"
        "    for path in (b'/proc/self/fd/%d', b'/dev/fd/%d', b'/proc/thread-self/fd/%d',\n"
        "                 b'/proc/1/fd/%d')",
    ),
    kernel(
        "file.magic_links", "The links of /proc that lead out of a root cannot be followed.",
        "proc(5), CVE-2019-5736 (runc)",
        "call(nr, *at, b'/proc/%s/%s' % (who, name), room, 4096) for nr, at in ((89, ()), "
        "(267, (-100,)))\n    for who in (b'self', b'1', b'thread-self')\n"
        "    for name in (b'exe', b'root', b'cwd', b'ns/user', b'map_files/0-1')",
    ),
    kernel(
        "file.handle", "A file cannot be opened by its handle instead of its path.",
        "open_by_handle_at(2), the 'shocker' escape from Docker",
        "call(303, -100, b'/', handle, room, 0), call(303, 0, b'', handle, room, 0x1000),\n"
        "    call(304, 0, handle, 0), call(304, -100, handle, 0x10000)",
        first="handle = ctypes.create_string_buffer(struct.pack('IIQ', 8, 1, 2), 64)",
    ),
    kernel(
        "file.nameless", "A file without a name cannot be made, which would fill a disk unseen.",
        "open(2), O_TMPFILE",
        "call(257, -100, path, 0x410002, 0o600) for path in (b'/', b'/tmp', b'/dev/shm', b'.')",
    ),
    told(
        "file.existence", "Whether a path exists cannot be told from how it is refused.",
        "landlock(7): stat is not restricted",
        "import ctypes\n"
        "syscall = ctypes.CDLL(None, use_errno=True).syscall\n"
        "room = ctypes.create_string_buffer(4096)\n"
        "def call(number, *words):\n"
        "    ctypes.set_errno(0)\n"
        "    return syscall(number, *words), ctypes.get_errno()\n"
        "def answers(path):\n"
        "    return [call(nr, path, room, 0) for nr in (2, 4, 6, 21, 80, 89, 137, 76, 161, 84)] + [\n"
        "        call(nr, -100, path, *words) for nr, *words in ((257, 0), (262, room, 0),\n"
        "        (269, 0), (332, 0, 0x7FF, room), (439, 0, 0), (437, room, 24))]\n"
        "there, missing = answers(b'{dir}/canary'), answers(b'{dir}/missing')\n"
        "print('held' if there == missing and all(a[0] < 0 for a in there) else 'HOLE', )",
        needs=("ctypes",),
    ),
    kernel(
        "file.watched", "Nothing in a file system can be watched.", "inotify(7), fanotify(7)",
        "call(253), call(294, 0), call(254, 0, b'/', 2), call(300, 0, 0), call(300, 0x200, 0),\n"
        "    call(301, 0, 1, 2, -100, b'/'), call(72, 0, 1026, 2)",
    ),
    kernel(
        "file.quota", "Quotas and states of file systems cannot be asked for.",
        "quotactl(2), statfs(2), statmount(2)",
        "call(179, 0x80000700, b'/dev/root', 0, room), call(443, 0, 0x80000700, 0, room),\n"
        "    call(137, b'/', room), call(136, 0, room), call(457, room, room, 4096, 0),\n"
        "    call(458, room, room, 16, 0), call(139, 1, 0, 0)",
    ),
    kernel(
        "file.removed", "A file cannot be removed, renamed or emptied.", "unlink(2), rename(2)",
        "call(87, b'{dir}/canary'), call(84, b'{dir}'), call(263, -100, b'{dir}/canary', 0),\n"
        "    call(82, b'{dir}/canary', b'{dir}/other'), call(76, b'{dir}/canary', 0),\n"
        "    call(264, -100, b'{dir}/canary', -100, b'{dir}/other'),\n"
        "    call(316, -100, b'{dir}/canary', -100, b'{dir}/other', 2)",
    ),
    kernel(
        "file.linked", "A file cannot be given a second name, by path or by descriptor.", "link(2)",
        "call(86, b'{dir}/canary', b'{dir}/link'), call(88, b'{dir}/canary', b'{dir}/link'),\n"
        "    call(265, 0, b'', -100, b'{dir}/link', 0x1000), call(266, b'/', -100, b'{dir}/link'),\n"
        "    call(265, -100, b'/proc/self/fd/0', -100, b'{dir}/link', 0x400)",
    ),
    kernel(
        "file.attributes", "Modes, owners, times and extended attributes cannot be set or read.",
        "chmod(2), xattr(7)",
        "call(90, b'{dir}/canary', 0o777), call(91, 0, 0o777), call(92, b'{dir}/canary', 0, 0),\n"
        "    call(93, 0, 0, 0), call(280, -100, b'{dir}/canary', null, 0), call(280, 0, null, null),\n"
        "    *(call(nr, b'{dir}/canary', b'user.x', room, 1, 0) for nr in range(188, 200)),\n"
        "    *(call(nr, 0, b'user.x', room, 1, 0) for nr in range(188, 200)), call(452, -100, b'/')",
    ),
    kernel(
        "file.device", "No device can be made, so that no disk can be read raw.", "mknod(2)",
        "call(133, path, kind | 0o666, 0x100 * major + minor) for path in (b'/x', b'{dir}/x')\n"
        "    for kind, major, minor in ((0o20000, 1, 1), (0o60000, 8, 0), (0o10000, 0, 0))",
    ),
    kernel(
        "file.descriptors_grown", "What is open cannot be made longer or be written to a disk.",
        "ftruncate(2), fallocate(2), sync(2)",
        "call(nr, fd, 0, 0, 1 << 30) for fd in range(4) for nr in (74, 75, 77, 162, 277, 285, 306)",
    ),
    kernel(
        "file.copied", "Descriptors cannot be copied into each other past the filter.",
        "copy_file_range(2), splice(2)",
        "call(nr, a, null, b, null, 4096, 0) for nr in (40, 275, 276, 278, 326)\n"
        "    for a in range(4) for b in range(4)",
    ),
    kernel(
        "file.locked", "Nothing can be locked or leased, which would make its owner wait.",
        "flock(2), fcntl(2)",
        "*(call(73, fd, 2) for fd in range(4)),\n"
        "    *(call(72, fd, what, room) for fd in range(4) for what in (5, 6, 7, 36, 37, 1024, 1025))",
    ),
    refused(
        "file.imported", "No module can be loaded from a folder of the host.", "importlib",
        "importlib.machinery.SourceFileLoader('x', '{dir}/canary').get_data('{dir}/canary')",
        "importlib.machinery.SourceFileLoader('x', '{dir}/canary').load_module()",
        "zipimport.zipimporter('{dir}/canary')", "runpy.run_path('{dir}/canary')",
        "importlib.import_module('canary')", "_imp.create_dynamic(spec)",
        first="import _imp, importlib.machinery, importlib.util, runpy, sys, zipimport\n"
        "sys.path.insert(0, '{dir}')\n"
        "spec = importlib.machinery.ModuleSpec('x', None, origin='{dir}/canary')",
    ),
    refused(
        "file.library", "No library can be loaded into the process.", "dlopen(3)",
        "ctypes.CDLL('libutil.so.1')", "ctypes.CDLL('{dir}/canary')",
        "ctypes.PyDLL('/lib/x86_64-linux-gnu/libpthread.so.0')", "_ctypes.dlopen('libcrypt.so.1', 2)",
        first="import _ctypes, ctypes", needs=("ctypes",),
    ),
    refused(
        "file.database", "A database of sqlite cannot be a file.", "sqlite.org: ATTACH, VACUUM INTO",
        "base('{dir}/made.db').execute('create table a (b)')", "base('file:/etc/passwd', uri=True)",
        "base(':memory:').execute(\"attach '{dir}/made.db' as x\")",
        "base(':memory:').execute(\"vacuum into '{dir}/made.db'\")",
        first="def base(*given, **named):\n    import sqlite3\n"
        "    made = sqlite3.connect(*given, **named)\n"
        "    made.execute('pragma schema_version').fetchall()\n    return made",
    ),
    told(
        "file.entity", "A document cannot bring a file in as an external entity.",
        "OWASP: XML external entity",
        "import io, xml.etree.ElementTree, xml.dom.minidom\n"
        "text = '<!DOCTYPE a [<!ENTITY b SYSTEM \"file://{dir}/canary\">]><a>&b;</a>'\n"
        "got = []\n"
        "def sax():\n"
        "    import xml.sax, xml.sax.handler\n"
        "    keep = type('Keep', (xml.sax.handler.ContentHandler,), {'characters': "
        "lambda self, text: got.append(text)})\n"
        "    parser = xml.sax.make_parser()\n"
        "    parser.setFeature(xml.sax.handler.feature_external_ges, True)\n"
        "    parser.setContentHandler(keep())\n"
        "    parser.parse(io.StringIO(text))\n"
        "for way in (lambda: got.append(xml.etree.ElementTree.fromstring(text).text),\n"
        "            lambda: got.append(xml.dom.minidom.parseString(text).toxml()), sax):\n"
        "    try: way()\n"
        "    except Exception: pass\n"
        "print('HOLE' if 'canary-' in str(got) else 'held')",
    ),
    refused(
        "file.url", "A file cannot be fetched as an address.", "urllib.request",
        "urllib.request.urlopen('file://{dir}/canary').read()",
        "urllib.request.urlopen('file:///etc/passwd')",
        "urllib.request.FileHandler().file_open(urllib.request.Request('file:///etc/passwd'))",
        first="import urllib.request",
    ),
    told(
        "file.source_lines", "No helper of tracebacks shows lines of a file of the host.",
        "linecache, inspect, tokenize",
        "import inspect, linecache, tokenize, json\n"
        "got = [linecache.getline('{dir}/canary', 1), *linecache.getlines('/etc/passwd')]\n"
        "linecache.cache['x'] = (9, None, [], '{dir}/canary')\n"
        "linecache.checkcache('x'); got += linecache.updatecache('{dir}/canary')\n"
        "for way in (lambda: inspect.getsource(json), lambda: tokenize.open('{dir}/canary'),\n"
        "            lambda: inspect.getsource(submit.__wrapped__)):\n"
        "    try: got.append(way())\n"
        "    except (OSError, TypeError): pass\n"
        "print('HOLE' if any(got) else 'held', *got)",
    ),
    told(
        "file.zone", "A time zone is no way to a file.", "zoneinfo: TZPATH",
        "import zoneinfo\n"
        "zoneinfo.reset_tzpath(('/etc', '{dir}'))\n"
        "got = []\n"
        "for key in ('passwd', 'canary', '../../etc/passwd'):\n"
        "    try: got.append(zoneinfo.ZoneInfo(key))\n"
        "    except Exception as error: got += [] if 'MAGIC' not in str(error) else [key]\n"
        "print('HOLE' if got else 'held')",
    ),
    refused(
        "file.temporary", "No temporary file or folder can be made.", "tempfile",
        "tempfile.TemporaryFile()", "tempfile.NamedTemporaryFile(dir='{dir}')", "tempfile.mkdtemp()",
        "spooled()", "logging.FileHandler('{dir}/made.log')", "shutil.copy('/etc/passwd', '{dir}')",
        "zipfile.ZipFile('{dir}/made.zip', 'w')", "mmap.mmap(0, 4096, access=mmap.ACCESS_READ)",
        first="import logging, mmap, shutil, tempfile, zipfile\n"
        "def spooled():\n"
        "    with tempfile.SpooledTemporaryFile(max_size=1) as file:\n"
        "        return file.write(b'more than one')",
    ),
)  # fmt: skip
