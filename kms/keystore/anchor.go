package keystore

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/keyholt/keyholt/kms"
)

// FileAnchor remembers the newest head of a store in a file outside of the database, so
// that a database that was put back to an older state, whole and with good seals, is
// noticed. The file holds one JSON object:
//
//	{"format":"keyholt anchor","version":1,"store_id":"0011223344556677",
//	 "seal_key":"000102030405060708090a0b0c0d0e0f","revision":17,
//	 "head_seal":"64 hexadecimal digits","seal":"64 hexadecimal digits"}
//
//	seal = Seal("keyholt anchor" 00 01  store id  seal key id  revision  head seal)
//
// with fields as in the seals of rows (see Sealer): text, text, integer and bytes. The
// seal key is the one that the store had when the head was noted. Whoever can write the
// file can put an older one back, or remove it, but not make one up.
//
// Its methods may be called concurrently. No two processes may share a file.
type FileAnchor struct {
	path  string
	store *Store
	mu    sync.Mutex // one writer at a time
}

var _ kms.Anchor = (*FileAnchor)(nil)

// maxAnchor bounds what is read of a file; a good one is a third of that.
const maxAnchor = 1024

// anchorFile is what the file holds.
type anchorFile struct {
	Format   string `json:"format"`
	Version  int    `json:"version"`
	StoreID  string `json:"store_id"`
	SealKey  string `json:"seal_key"`
	Revision int64  `json:"revision"`
	HeadSeal string `json:"head_seal"`
	Seal     string `json:"seal"`
}

// OpenFileAnchor returns the anchor of the store at the path. The directory must exist;
// the file is made when something is first noted.
func OpenFileAnchor(path string, store *Store) *FileAnchor {
	return &FileAnchor{path: path, store: store}
}

// Name returns where the anchor is.
func (a *FileAnchor) Name() string { return "the file " + a.path }

// Read returns the head noted; ok is false if there is no file. A file that does not
// hold what Note writes, or is of another store, is kms.ErrTampered.
func (a *FileAnchor) Read(ctx context.Context) (head kms.Head, ok bool, err error) {
	file, err := os.Open(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return kms.Head{}, false, nil
	}
	if err != nil {
		return kms.Head{}, false, unavailable(err, "cannot read the anchor of the store: %v", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxAnchor))
	if err != nil {
		return kms.Head{}, false, unavailable(err, "cannot read the anchor of the store: %v", err)
	}
	head, err = a.parse(ctx, text)
	return head, err == nil, err
}

func (a *FileAnchor) parse(ctx context.Context, text []byte) (kms.Head, error) {
	var noted anchorFile
	if err := decodeLine(text, &noted); err != nil || noted.Format != "keyholt anchor" || noted.Version != 1 || noted.Revision < 0 {
		return kms.Head{}, a.tampered("it does not hold an anchor")
	}
	if noted.StoreID != a.store.ID() {
		return kms.Head{}, a.tampered("it is the anchor of the store " + clip(noted.StoreID) + ", and this is the store " + a.store.ID() +
			"; if this store was made on purpose to restore a backup, move the file away")
	}
	headSeal, err1 := hex.DecodeString(noted.HeadSeal)
	seal, err2 := hex.DecodeString(noted.Seal)
	_, err3 := parseUID(noted.SealKey)
	head := kms.Head{Revision: kms.Revision(noted.Revision)}
	if err1 != nil || err2 != nil || err3 != nil || len(headSeal) != len(head.Seal) {
		return kms.Head{}, a.tampered("it does not hold an anchor")
	}
	copy(head.Seal[:], headSeal)
	ring, err := a.ring(ctx, noted.SealKey)
	if err != nil {
		return kms.Head{}, err
	}
	if want := anchorSeal(ring, a.store.ID(), head); !hmac.Equal(want[:], seal) {
		return kms.Head{}, a.tampered("it does not carry the seal that it should")
	}
	return head, nil
}

// ring opens the seal key of the anchor, which may be one that the store had earlier.
func (a *FileAnchor) ring(ctx context.Context, keyID string) (*ring, error) {
	if current := a.store.current.Load(); current != nil && current.keyID == keyID {
		return current, nil
	}
	return openRing(ctx, a.store.open, a.store.ID(), keyID)
}

// Note puts the head in the place of the one noted before. When it returns, the head has
// reached the disk; when it fails, either head stands in the file.
func (a *FileAnchor) Note(ctx context.Context, head kms.Head) error {
	keyID, err := a.store.sealKey(ctx)
	if err != nil {
		return err
	}
	ring, err := a.ring(ctx, keyID)
	if err != nil {
		return err
	}
	seal := anchorSeal(ring, a.store.ID(), head)
	text, err := json.Marshal(&anchorFile{
		Format: "keyholt anchor", Version: 1, StoreID: a.store.ID(), SealKey: keyID, Revision: int64(head.Revision),
		HeadSeal: hex.EncodeToString(head.Seal[:]), Seal: hex.EncodeToString(seal[:]),
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := replaceFile(a.path, append(text, '\n')); err != nil {
		return unavailable(err, "cannot write the anchor of the store: %v", err)
	}
	return nil
}

// anchorSeal returns the seal of a head that is noted in a file.
func anchorSeal(r *ring, storeID string, head kms.Head) [32]byte {
	message := []byte("keyholt anchor\x00\x01")
	for _, value := range []any{storeID, r.keyID, int64(head.Revision), head.Seal[:]} {
		message, _ = appendField(message, value) // these types always can be
	}
	return r.sealer.Seal(message)
}

func (a *FileAnchor) tampered(what string) error {
	return &kms.Error{
		Sentinel: kms.ErrTampered,
		Message: fmt.Sprintf("the anchor of the store, %s, was tampered with: %s; find out who can write it. "+
			"To go on without what it remembered, remove the file", a.path, what),
		Metadata: map[string]string{"file": a.path},
	}
}

// sealKey returns the seal key that was last in use.
func (s *Store) sealKey(ctx context.Context) (string, error) {
	if current := s.current.Load(); current != nil {
		return current.keyID, nil
	}
	head, err := readHead(ctx, s.database.connection.db, "")
	if err != nil {
		return "", unavailable(err, cannotRead)
	}
	return head.keyID, nil
}

// replaceFile writes a file that only its owner can read, such that after a crash either
// the old text or the new one is there, and when it returns the new one.
func replaceFile(path string, text []byte) (err error) {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}
