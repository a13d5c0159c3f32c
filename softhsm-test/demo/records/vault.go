package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// seal encrypts every record of the CSV file under a data key of its own.
func (v *vault) seal(ctx context.Context, csvPath, sealedPath string) (err error) {
	records, err := readRecords(csvPath)
	if err != nil {
		return err
	}
	file, err := os.Create(sealedPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriter(file)
	var took time.Duration
	for from := 0; from < len(records); from += batch {
		part := records[from:min(from+batch, len(records))]
		began := time.Now()
		keys, err := v.api.GenerateDataKeys(ctx, kms.Principal{},
			&kms.GenerateDataKeysRequest{Key: v.key, Count: len(part), Binding: binding()})
		took += time.Since(began)
		if err != nil {
			return err
		}
		for i, k := range keys {
			if k.Err != nil {
				return k.Err
			}
			sealed, err := sealRecord(k.DataKey, from+i, part[i])
			if err != nil {
				return err
			}
			encode := base64.StdEncoding.EncodeToString
			if _, err := fmt.Fprintln(out, encode(k.Wrapped), encode(sealed)); err != nil {
				return err
			}
		}
	}
	fmt.Printf("encrypted %d records, each under its own data key: %.0f data keys/s\n", len(records), perSecond(len(records), took))
	return out.Flush()
}

// open unwraps the data keys of all records in batches, decrypts the records and
// compares them with the CSV file.
func (v *vault) open(ctx context.Context, csvPath, sealedPath string) error {
	records, err := readRecords(csvPath)
	if err != nil {
		return err
	}
	wrapped, sealed, err := readSealed(sealedPath)
	if err != nil {
		return err
	}
	if len(sealed) != len(records) {
		return fmt.Errorf("%s has %d records, %s has %d", sealedPath, len(sealed), csvPath, len(records))
	}
	versions := make(map[string]int)
	var took time.Duration
	for from := 0; from < len(records); from += batch {
		to := min(from+batch, len(records))
		items := make([]kms.DataKeyItem, to-from)
		for i := range items {
			items[i] = kms.DataKeyItem{Wrapped: wrapped[from+i]}
		}
		began := time.Now()
		keys, err := v.api.UnwrapDataKeys(ctx, kms.Principal{},
			&kms.UnwrapDataKeysRequest{Parent: v.key.Namespace(), Key: v.key, Items: items, Binding: binding()})
		took += time.Since(began)
		if err != nil {
			return err
		}
		for i, k := range keys {
			if k.Err != nil {
				return fmt.Errorf("record %d: %w", from+i+1, k.Err)
			}
			plaintext, err := openRecord(k.DataKey, from+i, sealed[from+i])
			if err != nil {
				return err
			}
			if !bytes.Equal(plaintext, records[from+i]) {
				return fmt.Errorf("record %d came back changed", from+i+1)
			}
			versions[k.Version.String()]++
		}
	}
	fmt.Printf("unwrapped %d data keys in batches of %d and decrypted every record: %.0f unwraps/s\n",
		len(records), batch, perSecond(len(records), took))
	for name, n := range versions {
		fmt.Printf("%d of them under %s\n", n, name)
	}
	return nil
}

func sealRecord(key []byte, number int, record []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, record, recordAAD(number)), nil
}

func openRecord(key []byte, number int, sealed []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, sealed, recordAAD(number))
}

// recordAAD is what a record is bound to: its number, so that records cannot be swapped.
func recordAAD(number int) []byte { return []byte("record " + strconv.Itoa(number)) }

// newAEAD is AES-256-GCM with a random nonce before the ciphertext; each key encrypts
// one record.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func readRecords(path string) (records [][]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	rows, err := csv.NewReader(file).ReadAll()
	for _, row := range rows {
		records = append(records, []byte(strings.Join(row, "\x00")))
	}
	return records, err
}

func readSealed(path string) (wrapped, sealed [][]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		first, second, _ := strings.Cut(lines.Text(), " ")
		key, keyErr := base64.StdEncoding.DecodeString(first)
		record, recordErr := base64.StdEncoding.DecodeString(second)
		if err := errors.Join(keyErr, recordErr); err != nil {
			return nil, nil, fmt.Errorf("%s, line %d: %w", path, len(wrapped)+1, err)
		}
		wrapped, sealed = append(wrapped, key), append(sealed, record)
	}
	return wrapped, sealed, lines.Err()
}
