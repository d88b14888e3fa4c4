package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// keyPair is the configured certificate. It is read again when its file is
// replaced, so that a renewal needs no restart; while the new files do not fit
// together the old pair stays in use.
type keyPair struct {
	certificate, key string

	mu     sync.Mutex
	pair   *tls.Certificate
	read   time.Time // the certificate file's time of change
	looked time.Time
}

// lookEvery bounds how often the file is looked at.
const lookEvery = 10 * time.Second

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pair != nil && time.Since(k.looked) < lookEvery {
		return k.pair, nil
	}
	k.looked = time.Now()
	info, err := os.Stat(k.certificate)
	if err == nil && k.pair != nil && info.ModTime().Equal(k.read) {
		return k.pair, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(k.certificate, k.key)
	if loadErr != nil {
		if k.pair != nil {
			return k.pair, nil
		}
		return nil, fmt.Errorf("load certificate: %w; check tls.certificate and tls.key", loadErr)
	}
	k.pair = &pair
	if err == nil {
		k.read = info.ModTime()
	}
	return k.pair, nil
}
