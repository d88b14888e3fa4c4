// Command kubelet stands in for a node's agent: it answers what a kube-apiserver
// asks the kubelet for (logs, exec, attach, port-forward) with the streaming
// code of the real one. What it runs, it runs on this machine.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

func main() {
	certFile := flag.String("cert", "", "the certificate to show")
	keyFile := flag.String("key", "", "its key")
	dir := flag.String("dir", "", "where commands run; NAMESPACE_POD.log there is a pod's log")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*certFile, *keyFile)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	n := &node{dir: *dir}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.logs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", n.exec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", n.attach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.forward)
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}}), mux))
}

// node is the one node of the cluster.
type node struct{ dir string }

const streamTimeout = 30 * time.Second

// logs writes a pod's log, and with follow what is added to it.
func (n *node) logs(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(filepath.Join(n.dir, r.PathValue("namespace")+"_"+r.PathValue("pod")+".log"))
	if err != nil {
		http.Error(w, "no such log", http.StatusNotFound)
		return
	}
	defer f.Close()
	flush := http.NewResponseController(w)
	for {
		if _, err := io.Copy(w, f); err != nil {
			return
		}
		if r.URL.Query().Get("follow") != "true" {
			return
		}
		flush.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func options(r *http.Request) *remotecommand.Options {
	q := r.URL.Query()
	on := func(name string) bool { return q.Get(name) == "1" || q.Get(name) == "true" }
	return &remotecommand.Options{Stdin: on("input"), Stdout: on("output"), Stderr: on("error") && !on("tty"), TTY: on("tty")}
}

func (n *node) exec(w http.ResponseWriter, r *http.Request) {
	remotecommand.ServeExec(w, r, n, r.PathValue("pod"), "", r.PathValue("container"), r.URL.Query()["command"], options(r), streamTimeout, streamTimeout, remotecommand.SupportedStreamingProtocols)
}

func (n *node) attach(w http.ResponseWriter, r *http.Request) {
	remotecommand.ServeAttach(w, r, n, r.PathValue("pod"), "", r.PathValue("container"), options(r), streamTimeout, streamTimeout, remotecommand.SupportedStreamingProtocols)
}

func (n *node) forward(w http.ResponseWriter, r *http.Request) {
	o, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, n, r.PathValue("pod"), "", o, streamTimeout, streamTimeout, portforward.SupportedProtocols)
}

// PortForward is of portforward.PortForwarder: a pod's ports are this machine's.
func (n *node) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer c.Close()
	go func() {
		io.Copy(c, stream)
		c.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, c)
	return err
}

// AttachContainer is of remotecommand.Attacher: what runs in every container is a shell.
func (n *node) AttachContainer(ctx context.Context, name, uid, container string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return n.ExecInContainer(ctx, name, uid, container, []string{"sh"}, in, out, errOut, tty, resize, 0)
}

// ExecInContainer is of remotecommand.Executor.
func (n *node) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = n.dir, []string{"PATH=" + os.Getenv("PATH"), "PS1=$ ", "TERM=dumb"}
	var err error
	if tty {
		err = onTerminal(cmd, in, out, resize)
	} else {
		err = plain(cmd, in, out, errOut)
	}
	if exit, ok := err.(*exec.ExitError); ok {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", exit.ExitCode()), Code: exit.ExitCode()}
	}
	return err
}

func plain(cmd *exec.Cmd, in io.Reader, out, errOut io.Writer) error {
	if out != nil {
		cmd.Stdout = out
	}
	if errOut != nil {
		cmd.Stderr = errOut
	}
	if in == nil {
		return cmd.Run()
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		io.Copy(stdin, in)
		stdin.Close()
	}()
	return cmd.Wait()
}

// onTerminal runs cmd on a pseudo-terminal of its own.
func onTerminal(cmd *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	number, unlock := uint32(0), uint32(0)
	control := func(request uintptr, argument unsafe.Pointer) error {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(argument)); e != 0 {
			return e
		}
		return nil
	}
	if err := control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)); err != nil {
		return err
	}
	if err := control(syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		return err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return err
	}
	go func() {
		for size := range resize {
			control(syscall.TIOCSWINSZ, unsafe.Pointer(&[4]uint16{size.Height, size.Width}))
		}
	}()
	if in != nil {
		go func() {
			if _, err := io.Copy(master, in); err == nil {
				io.Copy(master, strings.NewReader("\x04"))
			}
		}()
	}
	io.Copy(out, master) // ends when the last of the terminal's programs is gone
	return cmd.Wait()
}
