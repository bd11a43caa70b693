"""What librealize is compared with: rsync and cat over an ssh server of our own on loopback."""

import os
import re
import resource
import shutil
import subprocess
import time

from peers import TICKS_PER_SECOND, Failed, free_port, until

CIPHER = "aes128-gcm@openssh.com"


def have_ssh():
    return all(shutil.which(p) for p in ("rsync", "ssh", "ssh-keygen")) and sshd_path() is not None


def sshd_path():
    return shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd",) if os.path.exists(p)), None)


class SshServer:
    """sshd with keys and a configuration that live as long as this."""

    def __init__(self, where):
        self.where = os.path.join(where, "sshd")
        os.makedirs(self.where, mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(self.where, name)], check=True)
        self.port = free_port()
        config = os.path.join(self.where, "config")
        with open(config, "w") as file:
            file.write(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.where}/host\nPidFile none\n"
                       f"AuthorizedKeysFile {self.where}/user.pub\nStrictModes no\nUsePAM no\nUseDNS no\nPasswordAuthentication no\n"
                       f"PermitRootLogin prohibit-password\nCiphers {CIPHER}\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.log = open(os.path.join(self.where, "log"), "wb")
        self.server = subprocess.Popen([sshd_path(), "-D", "-e", "-f", config], stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=self.log)
        self.ssh = (f"ssh -c {CIPHER} -p {self.port} -i {self.where}/user -F none -o BatchMode=yes "
                    f"-o StrictHostKeyChecking=no -o UserKnownHostsFile={self.where}/known -o LogLevel=ERROR")
        until("sshd answers", lambda: subprocess.run([*self.ssh.split(), "127.0.0.1", "true"], stdin=subprocess.DEVNULL,
                                                     capture_output=True).returncode == 0, 20, 0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait()
        self.log.close()
        shutil.rmtree(self.where, ignore_errors=True)

    def cpu_seconds(self):
        """Of the server and of its sessions that have ended."""
        with open(f"/proc/{self.server.pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
        return sum(int(f) for f in fields[11:15]) / TICKS_PER_SECOND

    def sessions_ended(self):
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children") as file:
            return not file.read().split()

    def measured(self, work):
        """Wall and CPU seconds of both sides of `work`, which runs ssh as a child of this process."""
        def own():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime
        cpu, server, start = own(), self.cpu_seconds(), time.monotonic()
        out = work() or {}
        wall = time.monotonic() - start
        until("the sessions end", self.sessions_ended, 20, 0.005)
        return {"wall_s": wall, "cpu_s": own() - cpu + self.cpu_seconds() - server, **out}

    def rsync(self, source, target):
        """`rsync -a` and then `sync` of the file system that it wrote to."""
        def work():
            done = subprocess.run(["rsync", "-a", "--stats", "-e", self.ssh, source + "/", f"127.0.0.1:{target}/"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise Failed("rsync: " + done.stderr.strip())
            subprocess.run(["sync", "-f", target], check=True)
            numbers = re.findall(r"Total bytes (?:sent|received): ([\d,.]+)", done.stdout)
            return {"wire_bytes": sum(int(re.sub(r"\D", "", n)) for n in numbers)}
        return self.measured(work)

    def cat(self, path):
        def work():
            subprocess.run([*self.ssh.split(), "127.0.0.1", "cat", path], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, check=True)
        return self.measured(work)
